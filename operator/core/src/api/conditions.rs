//! Kubernetes conditions as kstatus reads them: `Ready`, `Reconciling`, `Stalled`, and a kind's own.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The schema's bound, which is Kubernetes' own: a longer message would be refused, and with it the whole status.
pub(super) const LONGEST: usize = 32 * 1024;

/// Sets one condition. The transition time moves only when the status does, so that an unchanged condition is an
/// unchanged object and costs no write.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let old = conditions.iter().position(|c| c.type_ == kind);
    let kept = old.map(|i| &conditions[i]).filter(|c| c.status == status.as_str());
    let new = Condition {
        type_: kind.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: crate::problem::head(message, LONGEST),
        observed_generation: generation,
        last_transition_time: kept.map_or(Time(now), |c| c.last_transition_time.clone()),
    };
    match old {
        Some(i) => conditions[i] = new,
        None => conditions.push(new),
    }
}
