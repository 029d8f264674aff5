//! What the log says of a watch that broke.

use kube::runtime::watcher::Error;

/// What to do about a 403, which does not end by itself; nothing for the rest, which does.
pub fn remedy(error: &Error) -> Option<&'static str> {
    let code = match error {
        Error::WatchError(status)
        | Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status)) => status.code,
        _ => return None,
    };
    (code == 403).then_some(
        "the router's ServiceAccount has lost its rights: the RoleBinding millrace-router of this namespace must bind \
         the ClusterRole millrace-router to it; the operator makes it, so look for why it does not",
    )
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_a_refusal_has_a_remedy() {
        let error = |code| Error::InitialListFailed(kube::Error::Api(Box::new(Status { code, ..Status::default() })));
        assert!(remedy(&error(403)).is_some_and(|says| says.contains("RoleBinding")));
        assert_eq!(remedy(&error(500)), None);
    }
}
