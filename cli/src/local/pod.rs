//! What the kubelet does for a pod, for a process: volumes become folders, variables get their values, and the paths at which a container
//! would find its volumes are written as those of this machine. There is no container: a program that has such a path in its own code does
//! not find it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, Volume, VolumeMount};
use millrace_contract::{
    AGENT_COPY_DIR, INPUTS_DIR, ITEM_INDEX_ENV, ITEM_RETRIES_ENV, ITEMS_PATH, STAGE_DIR, TASK_ENV, Task,
};
use millrace_core::pod::MAIN;
use serde_json::Value;

use super::source::Maps;

/// Where the archive of a run's code is, and where it is unpacked.
const CODE_FOLDER: &str = "/millrace/code/";
/// Where the agent is told that `/millrace` is.
const ROOT_ENV: &str = "MILLRACE_ROOT";
/// Where its report goes.
const REPORT_ENV: &str = "MILLRACE_TERMINATION_LOG";
const SHARED_MEMORY: &str = "/dev/shm";

/// What stages get from outside the pipeline.
#[derive(Default)]
pub struct Things {
    pub config_maps: Maps,
    pub secrets: Maps,
    /// Variables of `--env-file`: they stand for those that come from a Secret or ConfigMap.
    pub env: BTreeMap<String, String>,
}

/// Which item a pod is for, and how often it has failed.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub index: u32,
    pub failures: u32,
}

/// A pod as a process.
#[derive(Debug)]
pub struct Process {
    /// The agent's arguments.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub image: String,
    pub report: PathBuf,
}

/// Makes the folders of a pod below `root`, which is its own, and says what to start. Claims are folders of `claims`.
pub fn prepare(
    spec: &PodSpec,
    item: Option<Item>,
    root: &Path,
    claims: &Path,
    things: &Things,
) -> Result<Process, String> {
    let main =
        spec.containers.iter().find(|container| container.name == MAIN).ok_or("the pod has no main container")?;
    for folder in [root.to_owned(), root.join("inputs"), root.join("items"), root.join("volumes")] {
        fs::create_dir_all(&folder).map_err(|error| format!("failed to make {}: {error}", folder.display()))?;
    }
    let mounts = mount_all(spec, main, item, root, claims, things)?;
    let mut env = Vec::new();
    for variable in main.env.iter().flatten() {
        if let Some(value) = value_of(variable, item, &mounts, things)? {
            env.push((variable.name.clone(), value));
        }
    }
    let report = root.join("report.json");
    env.push((ROOT_ENV.to_owned(), root.display().to_string()));
    env.push((REPORT_ENV.to_owned(), report.display().to_string()));
    let args = main.args.iter().flatten().map(|text| mounts.local(&unescaped(text))).collect();
    Ok(Process { args, env, image: main.image.clone().unwrap_or_default(), report })
}

/// The paths of a container, and where they are here; the longest first.
struct Mounts(Vec<(String, String)>);

impl Mounts {
    /// The text with the paths of this machine. A path is found where it begins and ends as one: not in `https://host/data`, not in `/database`.
    fn local(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(sign) = rest.chars().next() {
            let begins = sign == '/' && !out.chars().next_back().is_some_and(|before| within(before) || before == '/');
            let found = self.0.iter().filter(|_| begins).find_map(|(path, here)| {
                let after = rest.strip_prefix(path.as_str())?;
                (!after.starts_with(within)).then_some((here, after))
            });
            if let Some((here, after)) = found {
                out.push_str(here);
                rest = after;
            } else {
                out.push(sign);
                rest = &rest[sign.len_utf8()..];
            }
        }
        out
    }

    /// Every text of a value.
    fn local_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.local(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.local_in(item)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.local_in(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn local_path(&self, path: &str) -> String {
        let found = self.0.iter().find(|(mounted, _)| mounted == path);
        found.map_or_else(|| path.to_owned(), |(_, here)| here.clone())
    }
}

/// It would make another name of a path's part.
fn within(sign: char) -> bool {
    sign.is_alphanumeric() || matches!(sign, '_' | '-' | '.' | '~')
}

fn mount_all(
    spec: &PodSpec,
    main: &Container,
    item: Option<Item>,
    root: &Path,
    claims: &Path,
    things: &Things,
) -> Result<Mounts, String> {
    let mut mounts = Vec::new();
    for mount in main.volume_mounts.iter().flatten() {
        let path = mount.mount_path.trim_end_matches('/');
        // The agent is this program, and this machine has a /dev/shm.
        if path == AGENT_COPY_DIR || path == SHARED_MEMORY {
            continue;
        }
        let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("there is no volume {} for {path}", mount.name))?;
        let below = below(mount, item);
        let source = source(volume, root, claims, things)?;
        // Joined with nothing it would end with a slash.
        let here = if below.is_empty() { source } else { source.join(&below) };
        // As the kubelet does; an input that is not there is for the agent to tell.
        if !path.starts_with(INPUTS_DIR) && !below.is_empty() && !here.exists() {
            fs::create_dir_all(&here).map_err(|error| format!("failed to make {}: {error}", here.display()))?;
        }
        place(path, &here, root)?;
        mounts.push((path.to_owned(), here.display().to_string()));
    }
    mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    Ok(Mounts(mounts))
}

fn below(mount: &VolumeMount, item: Option<Item>) -> String {
    let index = item.map(|item| item.index.to_string()).unwrap_or_default();
    let expression = mount.sub_path_expr.as_ref().map(|text| text.replace(&format!("$({ITEM_INDEX_ENV})"), &index));
    expression.or_else(|| mount.sub_path.clone()).unwrap_or_default()
}

/// The folder of a volume.
fn source(volume: &Volume, root: &Path, claims: &Path, things: &Things) -> Result<PathBuf, String> {
    let own = root.join("volumes").join(&volume.name);
    let failed = |error: std::io::Error| format!("volume {}: {error}", volume.name);
    if let Some(claim) = &volume.persistent_volume_claim {
        let folder = claims.join(&claim.claim_name);
        fs::create_dir_all(&folder).map_err(failed)?;
        return Ok(folder);
    }
    let keys = if let Some(map) = &volume.config_map {
        keys(&things.config_maps, "ConfigMap", &map.name, map.optional)?
    } else if let Some(secret) = &volume.secret {
        keys(&things.secrets, "Secret", secret.secret_name.as_deref().unwrap_or_default(), secret.optional)?
    } else if volume.empty_dir.is_some() {
        BTreeMap::new()
    } else {
        return Err(format!("volume {} is of a kind that a run without a cluster does not have", volume.name));
    };
    fs::create_dir_all(&own).map_err(failed)?;
    // Nobody else's to read: it may be a Secret.
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    for (key, value) in keys {
        fs::write(own.join(key), value).map_err(failed)?;
    }
    Ok(own)
}

fn keys(maps: &Maps, kind: &str, name: &str, optional: Option<bool>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    match maps.get(name) {
        Some(keys) => Ok(keys.clone()),
        None if optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(format!("{kind} {name} is in none of the files")),
    }
}

/// Puts what the agent looks for where it looks. What a digest is made of must be no link.
fn place(path: &str, here: &Path, root: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("failed to lay out {path}: {error}");
    let link = |to: PathBuf| std::os::unix::fs::symlink(here, to).map_err(failed);
    if path == STAGE_DIR {
        link(root.join("stage"))
    } else if let Some(name) = path.strip_prefix(INPUTS_DIR) {
        link(root.join("inputs").join(name.trim_start_matches('/')))
    } else if let Some(below) = path.strip_prefix(CODE_FOLDER) {
        fs::create_dir_all(root.join("code")).map_err(failed)?;
        link(root.join("code").join(below))
    } else if path == ITEMS_PATH {
        let list = root.join("items/list");
        fs::hard_link(here, &list).or_else(|_| fs::copy(here, &list).map(|_| ())).map_err(failed)
    } else {
        Ok(())
    }
}

/// Nothing for an optional one that is absent.
fn value_of(variable: &EnvVar, item: Option<Item>, mounts: &Mounts, things: &Things) -> Result<Option<String>, String> {
    let name = &variable.name;
    if let Some(value) = &variable.value {
        let value = unescaped(value);
        return Ok(Some(if name == TASK_ENV { told(&value, mounts)? } else { mounts.local(&value) }));
    }
    let Some(from) = &variable.value_from else { return Ok(Some(String::new())) };
    if from.field_ref.is_some() {
        // What the Job controller notes on an item's pod.
        let [failures, disruptions] = ITEM_RETRIES_ENV;
        return Ok(item.and_then(|item| match name.as_str() {
            ITEM_INDEX_ENV => Some(item.index.to_string()),
            name if name == failures => Some(item.failures.to_string()),
            name if name == disruptions => Some("0".to_owned()),
            _ => None,
        }));
    }
    if let Some(value) = things.env.get(name) {
        return Ok(Some(value.clone()));
    }
    let key = |maps: &Maps, kind: &str, map: &str, key: &str, optional: Option<bool>| match maps
        .get(map)
        .and_then(|keys| keys.get(key))
    {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("env.{name}: {kind} {map} with the key {key} is in none of the files")),
    };
    if let Some(of) = &from.secret_key_ref {
        return key(&things.secrets, "Secret", &of.name, &of.key, of.optional);
    }
    if let Some(of) = &from.config_map_key_ref {
        return key(&things.config_maps, "ConfigMap", &of.name, &of.key, of.optional);
    }
    Err(format!("env.{name} comes from what a run without a cluster does not have"))
}

/// The agent's task, with this machine's paths.
fn told(text: &str, mounts: &Mounts) -> Result<String, String> {
    let unread = |error: serde_json::Error| format!("the agent's task cannot be read: {error}");
    let mut task: Task = serde_json::from_str(text).map_err(unread)?;
    task.script = task.script.map(|script| mounts.local(&script));
    // Not by the link: a link is no artifact.
    task.inputs.values_mut().for_each(|input| input.path = mounts.local_path(&input.path));
    if let Some(order) = task.items.as_mut().and_then(|items| items.order.as_mut()) {
        mounts.local_in(order);
    }
    serde_json::to_string(&task).map_err(unread)
}

/// As the kubelet reads a text in which every `$(` is written `$$(`.
fn unescaped(text: &str) -> String {
    text.replace("$$", "$")
}

#[cfg(test)]
mod tests {
    use millrace_core::pod::escape;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_replaced_where_it_is_one() {
        let mounts = Mounts(vec![("/millrace/inputs/a".into(), "/x/a".into()), ("/data".into(), "/y".into())]);
        for (text, expected) in [
            ("/data", "/y"),
            ("{\"source\":\"/data/p.csv\"}", "{\"source\":\"/y/p.csv\"}"),
            ("--in=/data/,/millrace/inputs/a", "--in=/y/,/x/a"),
            ("https://host/data/p", "https://host/data/p"),
            ("s3://data/x //data /database /data-2 ./data", "s3://data/x //data /database /data-2 ./data"),
            ("ä/dataß '/data' ü", "ä/dataß '/y' ü"),
        ] {
            assert_eq!(mounts.local(text), expected);
        }
    }

    #[test]
    fn what_is_escaped_for_the_kubelet_comes_back() {
        for text in ["$(HOME) $HOME $$ $$( cost: 5$", "$", "$$$"] {
            assert_eq!(unescaped(&escape(text)), text);
        }
    }

    fn spec(volumes: &Value, mounts: &Value, env: &Value) -> PodSpec {
        let main = json!({ "name": "main", "image": "i", "args": ["run", "--", "cat", "/etc/conf/a"], "env": env, "volumeMounts": mounts });
        serde_json::from_value(json!({ "containers": [main], "volumes": volumes })).unwrap()
    }

    #[test]
    fn volumes_are_folders_and_variables_have_values() {
        let root = tempfile::tempdir().unwrap();
        let (claims, root) = (root.path().join("claims"), root.path().join("pod"));
        fs::create_dir_all(claims.join("c/runs/r/a")).unwrap();
        let mut things = Things::default();
        things.config_maps.insert("m".into(), [("a".to_owned(), b"text".to_vec())].into());
        things.secrets.insert("s".into(), [("k".to_owned(), b"key".to_vec())].into());
        things.env.insert("FROM_FILE".into(), "file".into());
        let task = json!({
            "namespace": "n", "run": "r", "runUid": "u", "stage": "s", "attempt": 1, "graceSeconds": 1, "durable": true,
            "script": "#!/bin/sh\ncat /millrace/inputs/a",
            "inputs": { "a": { "path": "/millrace/inputs/a", "digest": "d", "size": 1 } },
        });
        let of = |name: &str| json!({ "secretKeyRef": { "name": name, "key": "k" } });
        let spec = spec(
            &json!([
                { "name": "store", "persistentVolumeClaim": { "claimName": "c" } }, { "name": "m", "configMap": { "name": "m" } },
                { "name": "e", "emptyDir": {} },
            ]),
            &json!([
                { "name": "store", "mountPath": "/millrace/stage", "subPath": "runs/r/s" },
                { "name": "store", "mountPath": "/millrace/inputs/a", "subPath": "runs/r/a" },
                { "name": "m", "mountPath": "/etc/conf" }, { "name": "e", "mountPath": "/scratch" },
            ]),
            &json!([
                { "name": "MILLRACE_TASK", "value": escape(&task.to_string()) }, { "name": "SCRATCH", "value": "/scratch/x" },
                { "name": "KEY", "valueFrom": of("s") }, { "name": "FROM_FILE", "valueFrom": of("nowhere") },
            ]),
        );
        let process = prepare(&spec, None, &root, &claims, &things).unwrap();
        assert_eq!(fs::read_to_string(&process.args[3]).unwrap(), "text");
        let env: BTreeMap<_, _> = process.env.into_iter().collect();
        assert_eq!((env["KEY"].as_str(), env["FROM_FILE"].as_str()), ("key", "file"));
        assert_eq!(env["SCRATCH"], root.join("volumes/e/x").display().to_string());
        let told: Task = serde_json::from_str(&env["MILLRACE_TASK"]).unwrap();
        let input = claims.join("c/runs/r/a").display().to_string();
        assert_eq!((&told.inputs["a"].path, told.script.unwrap()), (&input, format!("#!/bin/sh\ncat {input}")));
        assert!(root.join("stage").is_dir() && root.join("inputs/a").is_dir());
    }

    #[test]
    fn what_is_not_here_is_named() {
        let root = tempfile::tempdir().unwrap();
        let refused = |volume: Value| {
            let spec = spec(&json!([volume]), &json!([{ "name": "v", "mountPath": "/v" }]), &json!([]));
            prepare(&spec, None, &root.path().join("pod"), root.path(), &Things::default()).unwrap_err()
        };
        assert!(refused(json!({ "name": "v", "configMap": { "name": "m" } })).contains("ConfigMap m"));
        assert!(refused(json!({ "name": "v", "secret": { "secretName": "s" } })).contains("Secret s"));
        assert!(refused(json!({ "name": "v", "nfs": { "server": "h", "path": "/" } })).contains("volume v"));
    }
}
