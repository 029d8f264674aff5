//! Formulas against known values, sums over pods, and what is said of a window.

mod figures;
mod judged;
mod sums;

use millrace_contract::{Counted, CountedKind, DriftCounts};

/// A numeric feature: training rows and rows of the window, first those without a value.
fn numbers(name: &str, importance: f64, reference: &[u64], counts: &[u64]) -> Counted {
    Counted {
        name: name.to_owned(),
        importance,
        reference: reference.to_vec(),
        counts: counts.to_vec(),
        ..Counted::default()
    }
}

fn categories(name: &str, importance: f64, reference: &[u64], counts: &[u64]) -> Counted {
    Counted { kind: CountedKind::Categorical, ..numbers(name, importance, reference, counts) }
}

/// Counts of version 3 of the model `m`.
fn counts(rows: u64, features: Vec<Counted>) -> DriftCounts {
    DriftCounts { model: "m".to_owned(), version: "3".to_owned(), rows, features, ..DriftCounts::default() }
}
