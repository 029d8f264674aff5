//! Shapley values against one reference row. Pure.
//!
//! The value of a set S of features is v(S): the model's output for a row whose features in S are the explained row's and
//! whose others are the reference's. The attribution of feature i is
//!
//! φᵢ = Σ over S ⊆ F∖{i} of |S|! (n − |S| − 1)! / n! · (v(S ∪ {i}) − v(S))
//!
//! (Shapley 1953; for models and one reference: "baseline Shapley", Sundararajan and Najmi, ICML 2020.) That needs v of all
//! 2ⁿ sets. For more features the mean over orders is taken in place of the sum, each order with its reverse (Castro, Gómez
//! and Tejada 2009; reversed pairs: Mitchell and others, JMLR 2022). Both add up: Σ φᵢ = v(F) − v(∅), but for rounding.

/// Which sets to ask the model about, and what follows from the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Exact { features: usize },
    Sampled { orders: Vec<Vec<usize>> },
}

/// The features whose values are the explained row's.
pub type Set = Vec<bool>;

impl Plan {
    /// A plan of at most `budget` sets; `None` if not even one pair of orders fits.
    pub fn new(features: usize, budget: usize) -> Option<Self> {
        let all = u32::try_from(features).ok().and_then(|features| 1_usize.checked_shl(features));
        if features < 30 && all.is_some_and(|all| all <= budget) {
            return Some(Self::Exact { features });
        }
        let pairs = budget.saturating_sub(2) / (2 * features.saturating_sub(1)).max(1);
        let mut random = SplitMix(0);
        let pair = |_| {
            let order = random.order(features);
            let reverse = order.iter().rev().copied().collect();
            [order, reverse]
        };
        (pairs > 0).then(|| Self::Sampled { orders: (0..pairs).flat_map(pair).collect() })
    }

    /// The sets, in the order in which [`Plan::attributions`] takes their values.
    pub fn sets(&self) -> Vec<Set> {
        match self {
            Self::Exact { features } => {
                (0..1_usize << features).map(|set| (0..*features).map(|i| set >> i & 1 == 1).collect()).collect()
            }
            Self::Sampled { orders } => {
                let features = orders.first().map_or(0, Vec::len);
                let mut sets = vec![vec![false; features], vec![true; features]];
                for order in orders {
                    let mut set = vec![false; features];
                    for feature in &order[..features.saturating_sub(1)] {
                        set[*feature] = true;
                        sets.push(set.clone());
                    }
                }
                sets
            }
        }
    }

    /// The attribution of each feature from the values of all sets.
    pub fn attributions(&self, values: &[f64]) -> Vec<f64> {
        match self {
            Self::Exact { features } => exact(*features, values),
            Self::Sampled { orders } => sampled(orders, values),
        }
    }

    /// The name of the method in answers.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Exact { .. } => "shapley-exact",
            Self::Sampled { .. } => "shapley-sampled",
        }
    }
}

fn exact(features: usize, values: &[f64]) -> Vec<f64> {
    // |S|! (n − |S| − 1)! / n! = 1 / (n · C(n − 1, |S|))
    let mut weights = Vec::with_capacity(features);
    let mut choose = 1.0;
    for size in 0..features {
        weights.push(1.0 / (features as f64 * choose));
        choose = choose * (features - 1 - size) as f64 / (size + 1) as f64;
    }
    let attribution = |feature: usize| {
        let bit = 1 << feature;
        let without = (0..values.len()).filter(|set| set & bit == 0);
        without.map(|set| weights[set.count_ones() as usize] * (values[set | bit] - values[set])).sum()
    };
    (0..features).map(attribution).collect()
}

fn sampled(orders: &[Vec<usize>], values: &[f64]) -> Vec<f64> {
    let features = orders.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; features];
    let (none, all) = (values[0], values[1]);
    let steps = features.saturating_sub(1);
    for (index, order) in orders.iter().enumerate() {
        let between = &values[2 + index * steps..2 + (index + 1) * steps];
        let mut before = none;
        for (feature, after) in order.iter().zip(between.iter().chain(std::iter::once(&all))) {
            sums[*feature] += after - before;
            before = *after;
        }
    }
    sums.into_iter().map(|sum| sum / orders.len() as f64).collect()
}

/// `SplitMix64` (Steele, Lea and Flood 2014): the same orders in each answer.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A shuffled order (Fisher and Yates). The remainder's bias is below n / 2⁶⁴.
    fn order(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        for last in (1..length).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).unwrap_or(0);
            order.swap(last, other);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(features: usize, budget: usize, value: impl Fn(&Set) -> f64) -> (Plan, Vec<f64>) {
        let plan = Plan::new(features, budget).unwrap();
        let sets = plan.sets();
        assert!(sets.len() <= budget);
        let values: Vec<f64> = sets.iter().map(value).collect();
        let attributions = plan.attributions(&values);
        (plan, attributions)
    }

    fn near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }

    #[test]
    fn exact_values_are_those_of_the_glove_game() {
        // Who has the left glove (0) and one of the right ones (1, 2) has a pair.
        let (plan, found) = explain(3, 8, |set| f64::from(u8::from(set[0] && (set[1] || set[2]))));
        assert_eq!(plan, Plan::Exact { features: 3 });
        near(&found, &[2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]);
    }

    #[test]
    fn of_a_sum_each_has_its_own_part_by_either_method() {
        let value = |set: &Set| set.iter().zip(1_u8..).filter(|(has, _)| **has).map(|(_, part)| f64::from(part)).sum();
        near(&explain(4, 16, value).1, &[1.0, 2.0, 3.0, 4.0]);
        let (plan, found) = explain(4, 15, value);
        assert_eq!(plan.method(), "shapley-sampled");
        near(&found, &[1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn sampled_values_are_exact_for_pairs_and_always_add_up() {
        // A product of two: an order and its reverse give each half of what both make together.
        let (_, found) = explain(12, 64, |set| f64::from(u8::from(set[3] && set[7])));
        let mut expected = [0.0; 12];
        (expected[3], expected[7]) = (0.5, 0.5);
        near(&found, &expected);
        let (_, found) = explain(12, 64, |set| f64::from(u8::from(set.iter().all(|has| *has))));
        near(&[found.iter().sum()], &[1.0]);
    }

    #[test]
    fn more_features_than_the_budget_allows_have_no_plan() {
        assert_eq!(Plan::new(1, 2), Some(Plan::Exact { features: 1 }));
        assert!(Plan::new(100, 200).is_some());
        assert_eq!(Plan::new(100, 199), None);
        assert_eq!(Plan::new(usize::MAX, 2048), None);
    }
}
