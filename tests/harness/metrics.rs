//! Reading the text format of Prometheus.

use std::collections::BTreeMap;

/// One line of `/stats/prometheus`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of an answer.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Reads the text format; lines that are no sample are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The samples of this name whose labels include `labels`.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|own| own == value))
        };
        self.0.iter().filter(fits).collect()
    }

    /// The sum over the samples of this name whose labels include `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).iter().map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let labels = labels.strip_suffix('}')?.split("\",").filter(|pair| !pair.is_empty());
    let labels = labels.filter_map(|pair| {
        let (key, value) = pair.split_once("=\"")?;
        Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect(), value })
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let samples = Samples::parse("# HELP x y\nx{a=\"1\",b=\"\"} 2\nx{a=\"2\",b=\"p,q\"} 3\ny 4\n");

        assert_eq!(samples.sum("x", &[]), 5.0);
        assert_eq!(samples.sum("x", &[("b", "p,q")]), 3.0);
        assert_eq!(samples.sum("x", &[("b", "")]), 2.0);
        assert_eq!(samples.sum("y", &[]), 4.0);
        assert!(samples.find("z", &[]).is_empty());
    }
}
