//! Measured values and their statistics.
//!
//! Contestants take turns within one run, so that a temporary disturbance affects all of them. A ratio compares two medians
//! of the same round; the tables print the median of these ratios over the rounds.

/// Values of one metric, in no order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the smallest value that at least this part of all values do not exceed; NaN if there is none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    pub(crate) fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn most(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl IntoIterator for Samples {
    type Item = f64;
    type IntoIter = std::vec::IntoIter<f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The samples of one contestant, by round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<Samples>);

impl FromIterator<Samples> for Rounds {
    fn from_iter<I: IntoIterator<Item = Samples>>(rounds: I) -> Self {
        Self(rounds.into_iter().collect())
    }
}

impl Rounds {
    pub(crate) fn all(&self) -> Samples {
        self.0.iter().cloned().flatten().collect()
    }

    /// Returns the median over the rounds of "our median ÷ the other's".
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().zip(&other.0).filter(|(ours, theirs)| !ours.is_empty() && !theirs.is_empty());
        pairs.map(|(ours, theirs)| ours.median() / theirs.median()).collect::<Samples>().median()
    }
}

/// Runs every contestant once per round. Each round begins with a different one.
pub(crate) fn interleave<C>(
    contestants: &mut [C],
    rounds: usize,
    mut run: impl FnMut(&mut C) -> Samples,
) -> Vec<Rounds> {
    let mut results = vec![Rounds::default(); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            results[index].0.push(run(&mut contestants[index]));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let samples: Samples = (1..=100).rev().map(f64::from).collect();
        assert_eq!((samples.least(), samples.median(), samples.p99(), samples.most()), (1.0, 50.0, 99.0, 100.0));
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        // A machine that is ten times slower in every other round.
        let mut contestants = [2.0, 1.0];
        let mut turn = 0;
        let results = interleave(&mut contestants, 4, |value| {
            turn += 1;
            [*value * if (turn - 1) / 2 % 2 == 0 { 1.0 } else { 10.0 }].into_iter().collect()
        });
        assert_eq!(results[0].ratio_to(&results[1]), 2.0);
        assert_eq!(results[0].all().len(), 4);
    }
}
