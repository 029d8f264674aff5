//! Metrics of predicted numbers, as scikit-learn 1.8 defines them: RMSE, MAE, the largest error, and R² with its edge
//! cases (a constant truth gives 1 if every prediction is exact, else 0; fewer than two rows give none).

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residuals {
    pub rmse: f64,
    pub mae: f64,
    pub max_error: f64,
    pub r2: Option<f64>,
}

/// None without rows.
pub fn residuals(truth: &[f64], predicted: &[f64]) -> Option<Residuals> {
    if truth.is_empty() {
        return None;
    }
    let rows = truth.len() as f64;
    let errors = || truth.iter().zip(predicted).map(|(truth, predicted)| truth - predicted);
    let squares: f64 = errors().map(|error| error * error).sum();
    let mean = truth.iter().sum::<f64>() / rows;
    let spread: f64 = truth.iter().map(|truth| (truth - mean) * (truth - mean)).sum();
    let r2 = match (squares == 0.0, spread == 0.0) {
        (_, false) => 1.0 - squares / spread,
        (true, true) => 1.0,
        (false, true) => 0.0,
    };
    Some(Residuals {
        rmse: (squares / rows).sqrt(),
        mae: errors().map(f64::abs).sum::<f64>() / rows,
        max_error: errors().map(f64::abs).fold(0.0, f64::max),
        r2: (truth.len() > 1).then_some(r2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_truth_has_an_r2_of_one_or_zero() {
        assert_eq!(residuals(&[2.0, 2.0], &[2.0, 2.0]).unwrap().r2, Some(1.0));
        assert_eq!(residuals(&[2.0, 2.0], &[2.0, 3.0]).unwrap().r2, Some(0.0));
    }

    #[test]
    fn too_few_rows_have_no_r2() {
        assert_eq!(residuals(&[1.0], &[2.0]).unwrap().r2, None);
        assert_eq!(residuals(&[], &[]), None);
    }
}
