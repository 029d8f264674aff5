//! Secrets and ConfigMaps as the kubelet mounts them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::site::Site;

/// Mounts one below the folder of a site, or swaps what is in it at once.
pub fn mount(site: &Path, path: &str, entries: &[(&str, &str)]) {
    static STATES: AtomicUsize = AtomicUsize::new(0);
    let folder = site.join("mounted").join(path);
    let state = format!("..{}", STATES.fetch_add(1, Ordering::SeqCst));
    std::fs::create_dir_all(folder.join(&state)).unwrap();
    for (name, content) in entries {
        std::fs::write(folder.join(&state).join(name), content).unwrap();
    }
    symlink(&state, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

impl Site {
    pub fn mount(&self, path: &str, entries: &[(&str, &str)]) {
        mount(self.folder.path(), path, entries);
    }

    /// A line of `/metrics` that begins so has this value.
    pub async fn counted(&self, series: &str) -> u64 {
        let text = self.metrics().await;
        let line =
            text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}: {text}"));
        line.trim().parse().unwrap()
    }

    pub async fn refusals(&self, reason: &str) -> u64 {
        self.counted(&format!("millrace_router_refused_total{{model=\"m\",reason=\"{reason}\"}}")).await
    }

    pub async fn problems(&self) -> Vec<String> {
        self.all_stats().await.models["m"].security.clone().unwrap().problems
    }
}
