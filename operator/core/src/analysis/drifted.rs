//! The verdict on the drift of the revision that comes: how much of what its servers were asked is unlike the rows that its version was trained on.

use millrace_contract::DriftCounts;

use super::judge::rounded;
use crate::api::{Analysis, AnalysisMetric, AnalysisStatus, Verdict};
use crate::drift::{self, Asked};

/// What the pods of the revision that comes counted, and how it is compared.
#[derive(Clone, Debug, Default)]
pub struct Rows<'a> {
    pub asked: Asked<'a>,
    /// `None` while none of them has said anything.
    pub counts: Option<&'a DriftCounts>,
}

pub(super) fn judge(name: &str, analysis: &Analysis, rows: &Rows<'_>) -> AnalysisStatus {
    let samples = rows.counts.map_or(0, |counts| counts.rows);
    let (value, verdict, message) = match rows.counts {
        None => (None, Verdict::Inconclusive, "no pod of the new revision says what it counted".to_owned()),
        Some(counts) => figure(analysis, &rows.asked, counts),
    };
    AnalysisStatus {
        name: name.to_owned(),
        verdict,
        value,
        stable: None,
        samples: i64::try_from(samples).unwrap_or(i64::MAX),
        message,
        ..AnalysisStatus::default()
    }
}

fn figure(analysis: &Analysis, asked: &Asked<'_>, counts: &DriftCounts) -> (Option<f64>, Verdict, String) {
    let needed = analysis.min_samples.map_or(asked.min_samples, u64::from);
    if counts.nothing.is_none() && counts.rows < needed {
        return (None, Verdict::Inconclusive, format!("{} of {needed} rows", counts.rows));
    }
    let judged = drift::judge(&Asked { min_samples: needed, ..asked.clone() }, counts);
    // Without a profile, or with features that it does not have.
    let Some(share) = judged.figures.share else { return (None, Verdict::Inconclusive, judged.message) };
    let head = format!("{} {}", AnalysisMetric::Drift.as_str(), rounded(share));
    let max = analysis.max.unwrap_or(1.0);
    let (verdict, limit) =
        if share > max { (Verdict::Failed, ", more than max") } else { (Verdict::Passed, ", within max") };
    (Some(share), verdict, format!("{head}{limit} {max}: {}", judged.message))
}
