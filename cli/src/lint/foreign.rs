//! Fields of other tools, by what they are called here.

/// Of Argo Workflows, Kubeflow Pipelines and Tekton; and the field in whose place they were written.
const WORDS: [(&str, &str); 22] = [
    ("activeDeadlineSeconds", "timeout"),
    ("arguments", "params"),
    ("dependencies", "needs"),
    ("depends", "needs"),
    ("entrypoint", "stages"),
    ("matrix", "forEach"),
    ("memoize", "cache"),
    ("onExit", "finally"),
    ("parameters", "params"),
    ("retries", "retry"),
    ("retryStrategy", "retry"),
    ("runAfter", "needs"),
    ("schedule", "triggers"),
    ("steps", "stages"),
    ("synchronization", "locks"),
    ("taskRef", "uses"),
    ("tasks", "stages"),
    ("templateRef", "uses"),
    ("templates", "stages"),
    ("withItems", "forEach"),
    ("withParam", "forEach"),
    ("withSequence", "forEach"),
];

/// What a stage has in its container.
const OF_CONTAINER: [&str; 8] =
    ["args", "command", "env", "image", "imagePullPolicy", "resources", "script", "volumes"];

/// What to write instead of a field that is not known here; nothing if nobody would guess. `known` are the fields that are.
pub(super) fn instead(field: &str, known: &[&str]) -> Option<String> {
    if OF_CONTAINER.contains(&field) && known.contains(&"container") {
        return Some(format!("write it in container: {{ {field}: … }}"));
    }
    if field == "inputs" && known.contains(&"results") && known.contains(&"params") {
        return Some("inputs stand at the stage, beside pipeline".to_owned());
    }
    let (_, ours) = WORDS.iter().find(|(word, ours)| *word == field && known.contains(ours))?;
    Some(format!("write {ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_another_tool_is_told_where_ours_is_a_field() {
        assert_eq!(instead("retryStrategy", &["retry", "uses"]).as_deref(), Some("write retry"));
        assert_eq!(instead("retryStrategy", &["uses"]), None);
        assert_eq!(instead("image", &["container"]).as_deref(), Some("write it in container: { image: … }"));
    }
}
