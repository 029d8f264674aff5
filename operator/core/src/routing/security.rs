//! What routers are told of a model's callers, and the Secrets and ConfigMaps that are mounted into them for it. Exactly those that a
//! spec names, and of them only the entries that are read: routers have no right to read Secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount};
use millrace_routes::{
    ApiKeys, Auth, Entry, Jwt, MOUNTED, Per, Published, Rate, Routes, Sasl, Security, Source, Tls, Use,
};

use super::objects::Home;
use crate::api::{
    self, Jwks, JwksKey, JwtRules, KafkaStream, LogSink, ModelDeployment, PrometheusQuery, RateLimit, RatePer,
};
use crate::names::sha256_hex;
use crate::problem::Problem;

/// Hex characters of a digest.
const SHORT: usize = 16;
/// Owner and group may read: the group of the pod is the router's.
const READABLE: i32 = 0o440;

/// Names the settings: routers say which ones they have in force.
#[must_use]
pub fn security_id(asked: &api::Security) -> String {
    let text = serde_json::to_string(asked).unwrap_or_default();
    sha256_hex(text.as_bytes())[..SHORT].to_owned()
}

/// What each of so many routers is told.
pub(super) fn document(asked: &api::Security, routers: i32) -> Security {
    Security {
        id: security_id(asked),
        tls: asked.tls.as_ref().map(|tls| Tls { secret: tls.secret_name.clone() }),
        auth: auth(asked),
        rate: asked.rate_limit.as_ref().map(|limit| rate(limit, asked.auth.is_some(), routers)),
    }
}

/// The schema lets nothing else through than what makes sense here; if something comes past it, the door is shut and not open.
fn auth(asked: &api::Security) -> Option<Auth> {
    Some(match asked.auth.as_ref()? {
        api::Auth { api_keys: Some(keys), jwt: None } => Auth::ApiKeys(ApiKeys { secret: keys.secret_name.clone() }),
        api::Auth { api_keys: None, jwt: Some(rules) } => tokens(rules).map_or(Auth::Nobody, Auth::Jwt),
        api::Auth { api_keys: None, jwt: None } | api::Auth { api_keys: Some(_), jwt: Some(_) } => Auth::Nobody,
    })
}

fn tokens(rules: &JwtRules) -> Option<Jwt> {
    let JwtRules { issuer, audiences, jwks } = rules;
    let jwks = match jwks {
        Jwks { config_map: Some(map), secret: None, uri: None, ca_config_map: None } => {
            millrace_routes::Jwks::Entry(entry(Source::ConfigMap, map))
        }
        Jwks { config_map: None, secret: Some(secret), uri: None, ca_config_map: None } => {
            millrace_routes::Jwks::Entry(entry(Source::Secret, secret))
        }
        Jwks { config_map: None, secret: None, uri: Some(_), ca_config_map: _ } => {
            // Routers would take none of the routes of the namespace with an address that is none.
            millrace_routes::Jwks::Published(published(jwks).filter(|published| published.fault().is_none())?)
        }
        Jwks { .. } => return None,
    };
    Some(Jwt { issuer: issuer.clone(), audiences: audiences.clone(), jwks })
}

/// Where the issuer publishes its keys.
fn published(jwks: &Jwks) -> Option<Published> {
    let ca = jwks.ca_config_map.as_ref().map(|ca| entry(Source::ConfigMap, ca));
    Some(Published { uri: jwks.uri.clone()?, ca })
}

/// What no schema can see of what is asked of callers.
pub(crate) fn check_security(asked: Option<&api::Security>) -> Option<Problem> {
    let jwks = &asked?.auth.as_ref()?.jwt.as_ref()?.jwks;
    let published = published(jwks)?;
    let message = format!("\"{}\" {}", published.uri, published.fault()?);
    Some(Problem::new("spec.security.auth.jwt.jwks.uri", "InvalidAddress", message))
}

/// An entry of an object of the namespace.
pub(super) fn entry(of: Source, entry: &JwksKey) -> Entry {
    Entry { of, name: entry.name.clone(), key: entry.key.clone() }
}

/// The share of one of so many routers.
fn rate(limit: &RateLimit, knows_callers: bool, routers: i32) -> Rate {
    let RateLimit { requests_per_second, burst, per } = limit;
    let routers = routers.max(1);
    // Between 1 and a million, as the schema has it.
    #[allow(clippy::cast_possible_truncation)]
    let second = requests_per_second.ceil().clamp(1.0, 1e6) as i32;
    let burst = burst.unwrap_or(second).max(1);
    let share = (burst + routers - 1) / routers;
    let per = match per {
        Some(RatePer::Caller) | None if knows_callers => Per::Caller,
        Some(RatePer::Caller | RatePer::Model) | None => Per::Model,
    };
    Rate { per_second: requests_per_second / f64::from(routers), burst: u32::try_from(share).unwrap_or(1).max(1), per }
}

/// Every query of a spec.
fn prometheus(model: &ModelDeployment) -> impl Iterator<Item = &PrometheusQuery> {
    let analyses = model.spec.rollout.iter().flat_map(|rollout| rollout.analysis.values());
    let scale = model.spec.scale.as_ref().and_then(|scale| scale.prometheus.as_deref());
    analyses.filter_map(|analysis| analysis.prometheus.as_ref()).chain(scale)
}

/// Something of an object that is mounted.
struct Mounted {
    of: Source,
    name: String,
    /// All of it, or these entries.
    keys: Option<Vec<String>>,
}

/// What models, by their specs, and graphs, by what routers are told of them, name of Secrets and ConfigMaps, each once, by its folder.
fn named(home: &Home<'_>, told: &Routes) -> BTreeMap<String, Mounted> {
    let models = home.owners;
    let mut all: BTreeMap<String, Mounted> = BTreeMap::new();
    let mut add = |of: Source, name: &str, usage: Use<'_>| {
        let keys = match usage {
            Use::Tls => Some(vec!["tls.crt".to_owned(), "tls.key".to_owned()]),
            Use::ApiKeys => None,
            Use::Jwks(key) | Use::Issuer(key) | Use::Prometheus(key) | Use::Log(key) | Use::Broker(key) => {
                Some(vec![key.to_owned()])
            }
            Use::Sasl => Some(vec![Sasl::USERNAME.to_owned(), Sasl::PASSWORD.to_owned()]),
        };
        all.insert(of.folder(name, usage), Mounted { of, name: name.to_owned(), keys });
    };
    // By the spec, and not by the routes: a rollout that begins must not replace routers.
    for asked in models.iter().flat_map(|model| prometheus(model)) {
        let PrometheusQuery { address: _, query: _, token_secret, ca_config_map } = asked;
        let entries = [(Source::Secret, token_secret), (Source::ConfigMap, ca_config_map)];
        for (of, entry) in entries.into_iter().filter_map(|(of, entry)| Some((of, entry.as_ref()?))) {
            add(of, &entry.name, Use::Prometheus(&entry.key));
        }
    }
    let logs = models.iter().filter_map(|model| model.spec.monitoring.as_ref()?.log.as_deref());
    for LogSink { address: _, mode: _, token_secret, ca_config_map } in logs.filter_map(|log| log.sink.as_ref()) {
        let entries = [(Source::Secret, token_secret), (Source::ConfigMap, ca_config_map)];
        for (of, entry) in entries.into_iter().filter_map(|(of, entry)| Some((of, entry.as_ref()?))) {
            add(of, &entry.name, Use::Log(&entry.key));
        }
    }
    for KafkaStream { tls, sasl, .. } in models.iter().filter_map(|model| Some(&model.spec.stream.as_ref()?.kafka)) {
        if let Some(ca) = tls.as_ref().and_then(|tls| tls.ca_config_map.as_ref()) {
            add(Source::ConfigMap, &ca.name, Use::Broker(&ca.key));
        }
        if let Some(sasl) = sasl {
            add(Source::Secret, &sasl.secret_name, Use::Sasl);
        }
    }
    let mut doors: Vec<(Option<String>, Option<Auth>)> = models
        .iter()
        .filter_map(|model| model.spec.security.as_deref())
        .map(|asked| (asked.tls.as_ref().map(|tls| tls.secret_name.clone()), auth(asked)))
        .collect();
    // A graph's spec may not be accepted: what was accepted before goes on, with its Secrets.
    let of_graphs =
        told.models.iter().filter(|model| model.graph.is_some()).filter_map(|graph| graph.security.as_ref());
    doors.extend(of_graphs.map(|told| (told.tls.as_ref().map(|tls| tls.secret.clone()), told.auth.clone())));
    for (tls, auth) in doors {
        if let Some(secret) = tls {
            add(Source::Secret, &secret, Use::Tls);
        }
        match auth {
            None | Some(Auth::Nobody) => {}
            Some(Auth::ApiKeys(ApiKeys { secret })) => add(Source::Secret, &secret, Use::ApiKeys),
            Some(Auth::Jwt(Jwt { jwks: millrace_routes::Jwks::Entry(Entry { of, name, key }), .. })) => {
                add(of, &name, Use::Jwks(&key));
            }
            Some(Auth::Jwt(Jwt { jwks: millrace_routes::Jwks::Published(Published { uri: _, ca }), .. })) => {
                if let Some(Entry { of, name, key }) = ca {
                    add(of, &name, Use::Issuer(&key));
                }
            }
        }
    }
    all
}

/// The volumes of the routers' pod, and where they are mounted. One that is not there is an empty folder.
pub(super) fn volumes(home: &Home<'_>, told: &Routes) -> (Vec<Volume>, Vec<VolumeMount>) {
    let named = named(home, told).into_iter().map(|(folder, Mounted { of: source, name, keys })| {
        let volume = format!("door-{}", &sha256_hex(folder.as_bytes())[..SHORT]);
        let items = keys.map(|keys| {
            let item = |key: String| KeyToPath { path: key.clone(), key, mode: None };
            keys.into_iter().map(item).collect::<Vec<_>>()
        });
        let mount = VolumeMount {
            name: volume.clone(),
            mount_path: format!("{MOUNTED}/{folder}"),
            read_only: Some(true),
            ..VolumeMount::default()
        };
        let mut of = Volume { name: volume, ..Volume::default() };
        let (optional, default_mode) = (Some(true), Some(READABLE));
        match source {
            Source::Secret => {
                of.secret = Some(SecretVolumeSource { secret_name: Some(name), items, optional, default_mode });
            }
            Source::ConfigMap => of.config_map = Some(ConfigMapVolumeSource { name, items, optional, default_mode }),
        }
        (of, mount)
    });
    named.unzip()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::{KeySecret, ModelDeploymentSpec, TlsSecret};

    fn jwks(name: &str, key: &str) -> api::Auth {
        let entry = JwksKey { name: name.to_owned(), key: key.to_owned() };
        let jwks = Jwks { secret: Some(entry), ..Jwks::default() };
        let jwt = api::JwtRules { issuer: "i".to_owned(), audiences: vec!["a".to_owned()], jwks };
        api::Auth { jwt: Some(jwt), api_keys: None }
    }

    /// Where an issuer publishes its keys, and the ConfigMap with its certificate authority.
    fn published(uri: &str, ca: Option<&str>) -> api::Auth {
        let mut auth = jwks("", "");
        let ca_config_map = ca.map(|name| JwksKey { name: name.to_owned(), key: "ca.crt".to_owned() });
        auth.jwt.as_mut().unwrap().jwks = Jwks { uri: Some(uri.to_owned()), ca_config_map, ..Jwks::default() };
        auth
    }

    fn keys(secret: &str) -> api::Auth {
        api::Auth { api_keys: Some(KeySecret { secret_name: secret.to_owned() }), jwt: None }
    }

    fn model(tls: Option<&str>, auth: Option<api::Auth>) -> ModelDeployment {
        let tls = tls.map(|name| TlsSecret { secret_name: name.to_owned() });
        let security = Some(Box::new(api::Security { tls, auth, ..api::Security::default() }));
        ModelDeployment::new("m", ModelDeploymentSpec { security, ..ModelDeploymentSpec::default() })
    }

    /// Each volume's path below the mounts with its entries, `*` for all.
    fn mounts(models: &[ModelDeployment]) -> Vec<(String, String)> {
        let owners: Vec<&ModelDeployment> = models.iter().collect();
        let home = Home { namespace: "team", owners: &owners, graphs: &[], names: &BTreeSet::new() };
        let (volumes, mounts) = volumes(&home, &Routes::default());
        let said = volumes.into_iter().zip(mounts).map(|(volume, mount)| {
            assert_eq!((&volume.name, mount.read_only), (&mount.name, Some(true)));
            let (items, optional) = match (volume.secret, volume.config_map) {
                (Some(secret), None) => (secret.items, secret.optional),
                (None, Some(map)) => (map.items, map.optional),
                other => panic!("{other:?}"),
            };
            assert_eq!(optional, Some(true), "one that is missing would keep every router from starting");
            let entries = items.map_or_else(
                || "*".to_owned(),
                |items| items.into_iter().map(|item| item.key).collect::<Vec<_>>().join(" "),
            );
            (mount.mount_path.strip_prefix(MOUNTED).unwrap().to_owned(), entries)
        });
        said.collect()
    }

    #[test]
    fn exactly_what_is_named_is_mounted_once_for_each_use() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(path, entries)| ((*path).to_owned(), (*entries).to_owned())).collect()
        };
        assert_eq!(mounts(&[ModelDeployment::default()]), vec![]);
        let models = [model(Some("cert"), Some(keys("keys"))), model(Some("cert"), Some(jwks("sets", "a.json")))];
        let expected = [
            ("/secrets/cert/tls", "tls.crt tls.key"),
            ("/secrets/keys/keys", "*"),
            ("/secrets/sets/jwks/a.json", "a.json"),
        ];
        assert_eq!(mounts(&models), pairs(&expected));
        let models = [model(None, Some(jwks("s", "a"))), model(None, Some(jwks("s", "b"))), model(Some("s"), None)];
        let expected = [("/secrets/s/jwks/a", "a"), ("/secrets/s/jwks/b", "b"), ("/secrets/s/tls", "tls.crt tls.key")];
        assert_eq!(mounts(&models), pairs(&expected));
        let models = [model(None, Some(jwks("s", "a"))), model(None, Some(keys("s"))), model(None, Some(keys("s")))];
        assert_eq!(mounts(&models), pairs(&[("/secrets/s/jwks/a", "a"), ("/secrets/s/keys", "*")]));
    }

    #[test]
    fn what_a_stream_names_is_mounted() {
        let stream = serde_json::json!({ "kafka": {
            "brokers": ["b:1"], "inputTopic": "i", "outputTopic": "o", "tls": { "caConfigMap": { "name": "ca", "key": "k.crt" } },
            "sasl": { "mechanism": "PLAIN", "secretName": "user" },
        } });
        let stream = Some(Box::new(serde_json::from_value(stream).unwrap()));
        let model = ModelDeployment::new("m", ModelDeploymentSpec { stream, ..ModelDeploymentSpec::default() });
        let found = mounts(&[model]);
        let found: Vec<(&str, &str)> = found.iter().map(|(path, entries)| (path.as_str(), entries.as_str())).collect();
        assert_eq!(found, [("/configmaps/ca/broker/k.crt", "k.crt"), ("/secrets/user/sasl", "username password")]);
    }

    #[test]
    fn auth_that_makes_no_sense_lets_nobody_in() {
        let mut both = keys("k");
        both.jwt = jwks("s", "a").jwt;
        let (mut of_nothing, mut of_two) = (jwks("s", "a"), jwks("s", "a"));
        of_nothing.jwt.as_mut().unwrap().jwks.secret = None;
        of_two.jwt.as_mut().unwrap().jwks.config_map = Some(JwksKey::default());
        let (mut with_uri, mut with_ca) = (jwks("s", "a"), jwks("s", "a"));
        with_uri.jwt.as_mut().unwrap().jwks.uri = Some("https://issuer".to_owned());
        with_ca.jwt.as_mut().unwrap().jwks.ca_config_map = Some(JwksKey::default());
        let open = published("http://issuer/keys", None);
        for wrong in [api::Auth::default(), both, of_nothing, of_two, with_uri, with_ca, open] {
            let models = [model(None, Some(wrong.clone()))];
            assert_eq!(document(models[0].spec.security.as_ref().unwrap(), 2).auth, Some(Auth::Nobody), "{wrong:?}");
            assert_eq!(mounts(&models), vec![]);
        }
        assert_eq!(document(&api::Security::default(), 2).auth, None);
    }

    #[test]
    fn where_an_issuer_publishes_its_keys_is_told_and_its_authority_is_mounted() {
        let models = [
            model(None, Some(published("https://issuer/keys", Some("ca")))),
            model(None, Some(published("https://issuer/keys", Some("ca")))),
            model(None, Some(published("https://public/keys?a=b", None))),
        ];
        assert_eq!(mounts(&models), [("/configmaps/ca/issuer/ca.crt".to_owned(), "ca.crt".to_owned())]);
        let told = |model: &ModelDeployment| {
            let auth = document(model.spec.security.as_ref().unwrap(), 2).auth;
            serde_json::to_value(auth.unwrap()).unwrap()["jwt"]["jwks"].clone()
        };
        let ca = serde_json::json!({ "of": "ConfigMap", "name": "ca", "key": "ca.crt" });
        assert_eq!(told(&models[0]), serde_json::json!({ "uri": "https://issuer/keys", "ca": ca }));
        assert_eq!(told(&models[2]), serde_json::json!({ "uri": "https://public/keys?a=b" }));
    }

    #[test]
    fn an_address_that_no_router_can_use_is_refused_with_what_to_write() {
        let said = |auth: api::Auth| {
            let asked = api::Security { auth: Some(auth), ..api::Security::default() };
            check_security(Some(&asked)).map(|problem| problem.to_string())
        };
        assert_eq!(said(published("https://issuer:8443/keys", None)), None);
        assert_eq!(said(jwks("s", "a")), None);
        assert_eq!(check_security(None), None);
        let refused = said(published("https://issuer:70000/keys", None)).unwrap();
        let expected =
            "spec.security.auth.jwt.jwks.uri: \"https://issuer:70000/keys\" must have a port from 1 to 65535, or none";
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_rate_is_divided_among_the_routers() {
        let of = |requests_per_second: f64, burst: Option<i32>, routers: i32| {
            let rate = rate(&RateLimit { requests_per_second, burst, per: None }, true, routers);
            (rate.per_second, rate.burst)
        };
        assert_eq!(of(50.0, Some(100), 2), (25.0, 50));
        assert_eq!(of(50.0, None, 2), (25.0, 25));
        assert_eq!(of(0.5, None, 2), (0.25, 1));
        assert_eq!(of(3.0, Some(1), 3), (1.0, 1));
        let per = |per, known| rate(&RateLimit { requests_per_second: 1.0, burst: None, per }, known, 2).per;
        assert_eq!([per(None, true), per(None, false)], [Per::Caller, Per::Model]);
        assert_eq!(per(Some(RatePer::Model), true), Per::Model);
    }

    #[test]
    fn other_settings_have_another_id() {
        let of = |model: &ModelDeployment| security_id(model.spec.security.as_ref().unwrap());
        assert_eq!(of(&model(Some("a"), None)), of(&model(Some("a"), None)));
        assert_ne!(of(&model(Some("a"), None)), of(&model(Some("b"), None)));
        assert_ne!(of(&model(None, Some(keys("a")))), of(&model(Some("a"), None)));
    }
}
