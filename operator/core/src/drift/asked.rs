//! What `spec.monitoring.drift` asks for, with its defaults.

use std::time::Duration;

use crate::api::{Drift, DriftMethod};
use crate::duration;

/// Bounds of `window`.
pub const SHORTEST_WINDOW: Duration = Duration::from_mins(5);
pub const LONGEST_WINDOW: Duration = Duration::from_hours(7 * 24);
const WINDOW: Duration = Duration::from_hours(1);
const MIN_SAMPLES: u64 = 500;

#[derive(Clone, Debug, PartialEq)]
pub struct Asked<'a> {
    pub window: Duration,
    pub method: DriftMethod,
    pub threshold: f64,
    pub min_samples: u64,
    /// Empty: all.
    pub features: &'a [String],
}

/// What holds where nothing is written.
static UNSAID: Drift = Drift { window: None, method: None, threshold: None, min_samples: None, features: Vec::new() };

impl Default for Asked<'_> {
    fn default() -> Self {
        Self::from(&UNSAID)
    }
}

impl<'a> From<&'a Drift> for Asked<'a> {
    fn from(drift: &'a Drift) -> Self {
        let method = drift.method.unwrap_or_default();
        let window = drift.window.as_deref().and_then(duration::parse).unwrap_or(WINDOW);
        Self {
            window: window.clamp(SHORTEST_WINDOW, LONGEST_WINDOW),
            method,
            threshold: drift.threshold.unwrap_or(match method {
                DriftMethod::PSI => 0.2,
                DriftMethod::KS | DriftMethod::ChiSquare => 0.1,
            }),
            min_samples: drift.min_samples.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(MIN_SAMPLES),
            features: &drift.features,
        }
    }
}
