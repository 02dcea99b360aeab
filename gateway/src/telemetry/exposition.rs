//! Metrics as text: Prometheus' own format, or OpenMetrics for whoever asks for it.

use std::{collections::BTreeMap, fmt::Write as _};

use http::{HeaderMap, header};

use super::standard::Exemplar;

/// How metrics are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// Prometheus' text, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What whoever asks likes best; Prometheus' text when there is no wish, as Envoy's answers are.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let mut best = (0, Self::Text);
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        for wish in lines.flat_map(|line| line.split(',')).take(MOST_WISHES) {
            let mut parts = wish.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let parameter = |name: &str| {
                let mut all = wish.split(';').skip(1).map(str::trim);
                all.find_map(|part| {
                    part.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it)
                })
            };
            let weight = parameter("q").map_or(1000, weight);
            let version = parameter("version").map(|it| it.trim_matches('"'));
            let format = if kind.eq_ignore_ascii_case("application/openmetrics-text") {
                // Another version is one that we do not speak.
                if version.is_some_and(|it| !["1.0.0", "0.0.1"].contains(&it)) {
                    continue;
                }
                Self::OpenMetrics
            } else if ["text/plain", "text/*", "*/*"].iter().any(|it| kind.eq_ignore_ascii_case(it)) {
                Self::Text
            } else {
                continue;
            };
            // Of the same weight what stands first.
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// `content-type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

const MOST_WISHES: usize = 32;

/// Thousandths of a `q`; one that cannot be read is none.
fn weight(text: &str) -> u32 {
    let value: f64 = text.parse().unwrap_or(0.0);
    if (0.0..=1.0).contains(&value) { (value * 1e3).round() as u32 } else { 0 }
}

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Text that is being written.
#[derive(Debug)]
pub(super) struct Exposition {
    text: String,
    format: Format,
}

impl Exposition {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::with_capacity(16 * 1024), format }
    }

    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (name, kind) = match (self.format, kind) {
            // There a counter's own name is without its ending; one that has none cannot be told as a counter.
            (Format::OpenMetrics, Kind::Counter) => match name.strip_suffix("_total") {
                Some(name) => (name, "counter"),
                None => (name, "unknown"),
            },
            (_, Kind::Counter) => (name, "counter"),
            (_, Kind::Gauge) => (name, "gauge"),
            (_, Kind::Histogram) => (name, "histogram"),
        };
        let quotes = self.format == Format::OpenMetrics;
        let _ = write!(self.text, "# HELP {name} ");
        escape(&mut self.text, help, quotes);
        let _ = write!(self.text, "\n# TYPE {name} {kind}\n");
    }

    /// Whether there is a place for exemplars: there is none in Prometheus' text.
    pub(super) fn has_exemplars(&self) -> bool {
        self.format == Format::OpenMetrics
    }

    /// A whole number; `labels` as [`label`] writes them.
    pub(super) fn integer(&mut self, name: &str, labels: &str, value: u64) {
        self.counted(name, labels, value, None);
    }

    /// The same, with an exemplar where there is one and a place for it.
    pub(super) fn counted(&mut self, name: &str, labels: &str, value: u64, exemplar: Option<&Exemplar>) {
        self.begin(name, labels);
        let _ = write!(self.text, " {value}");
        self.end(exemplar);
    }

    /// Any number.
    pub(super) fn float(&mut self, name: &str, labels: &str, value: f64) {
        self.begin(name, labels);
        self.text.push(' ');
        number(&mut self.text, value);
        self.text.push('\n');
    }

    /// A bucket of a histogram; `None` holds all.
    #[expect(clippy::too_many_arguments, reason = "the parts of one line")]
    pub(super) fn bucket(
        &mut self,
        name: &str,
        labels: &str,
        most: Option<f64>,
        count: u64,
        exemplar: Option<&Exemplar>,
    ) {
        let _ = write!(self.text, "{name}_bucket{{{labels}{}le=\"", if labels.is_empty() { "" } else { "," });
        match most {
            None => self.text.push_str("+Inf"),
            // Without `.0` in OpenMetrics, too: rules that name a bucket hold for both formats, as with Envoy's.
            Some(most) => number(&mut self.text, most),
        }
        let _ = write!(self.text, "\"}} {count}");
        self.end(exemplar);
    }

    /// The end of a line.
    fn end(&mut self, exemplar: Option<&Exemplar>) {
        if let Some(Exemplar { trace, span, value, at }) = exemplar.filter(|_| self.has_exemplars()) {
            let (seconds, milliseconds) = (at.as_secs(), at.subsec_millis());
            let _ = write!(self.text, " # {{trace_id=\"{trace:032x}\",span_id=\"{span:016x}\"}} ");
            number(&mut self.text, *value);
            let _ = write!(self.text, " {seconds}.{milliseconds:03}");
        }
        self.text.push('\n');
    }

    fn begin(&mut self, name: &str, labels: &str) {
        self.text.push_str(name);
        if !labels.is_empty() {
            let _ = write!(self.text, "{{{labels}}}");
        }
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

fn number(out: &mut String, value: f64) {
    let _ = match value {
        _ if value.is_nan() => write!(out, "NaN"),
        _ if value.is_infinite() => write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' }),
        _ => write!(out, "{value}"),
    };
}

/// Appends `name="value"`, behind a comma where something stands before it.
pub(super) fn label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

/// The labels that [`label`] has written.
pub(super) fn read_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let mut end = after.len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.push(match letters.next() {
                    Some((_, 'n')) => '\n',
                    other => other.map_or('\\', |(_, letter)| letter),
                }),
                other => value.push(other),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        rest = &after[end..];
    }
    labels
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    if !text.contains(['\\', '\n', '"']) {
        return out.push_str(text);
    }
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wanted(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Format::wanted(&headers)
    }

    #[test]
    fn the_format_is_what_is_liked_best() {
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Text);
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(wanted(prometheus), Format::OpenMetrics);
        assert_eq!(wanted("application/openmetrics-text;q=0.2, text/plain;q=0.9"), Format::Text);
        assert_eq!(wanted("application/openmetrics-text; version=\"1.0.0\""), Format::OpenMetrics);
        assert_eq!(wanted("application/openmetrics-text; version=2.0.0, */*;q=0.1"), Format::Text);
        assert_eq!(wanted("application/openmetrics-text;q=0, */*;q=0.1"), Format::Text);
        for odd in ["", ";", "image/png", "application/openmetrics-text;q=x", "application/openmetrics-text;q=7"] {
            assert_eq!(wanted(odd), Format::Text, "{odd}");
        }
    }

    #[test]
    fn labels_are_read_as_they_were_written() {
        let mut text = String::new();
        let all = [("a", ""), ("b", "x,y=\"z\""), ("c", "\\n\n\\"), ("d", "é")];
        all.iter().for_each(|(name, value)| label(&mut text, name, value));
        let read = read_labels(&text);
        assert_eq!(read.len(), all.len());
        assert!(all.iter().all(|(name, value)| read[*name] == *value), "{text} {read:?}");
    }

    #[test]
    fn each_format_is_written_as_it_has_to_be() {
        let write = |format| {
            let mut out = Exposition::new(format);
            out.family("a_total", Kind::Counter, "Says \"a\".");
            let mut labels = String::new();
            label(&mut labels, "x", "1\n\"\\");
            label(&mut labels, "y", "");
            out.integer("a_total", &labels, 3);
            out.family("b", Kind::Histogram, "B.");
            let exemplar =
                Exemplar { trace: 0xabc, span: 0x12, value: 2.5, at: Duration::from_millis(1_700_000_000_007) };
            out.bucket("b", "", Some(0.5), 0, None);
            out.bucket("b", "", Some(1e3), 1, Some(&exemplar));
            out.bucket("b", &labels, None, 1, None);
            out.float("b_sum", "", 2.5);
            out.finish()
        };
        let labels = "x=\"1\\n\\\"\\\\\",y=\"\"";
        assert_eq!(
            write(Format::Text),
            format!(
                "# HELP a_total Says \"a\".\n# TYPE a_total counter\na_total{{{labels}}} 3\n# HELP b B.\n# TYPE b histogram\n\
                 b_bucket{{le=\"0.5\"}} 0\nb_bucket{{le=\"1000\"}} 1\nb_bucket{{{labels},le=\"+Inf\"}} 1\nb_sum 2.5\n"
            )
        );
        assert_eq!(
            write(Format::OpenMetrics),
            format!(
                "# HELP a Says \\\"a\\\".\n# TYPE a counter\na_total{{{labels}}} 3\n# HELP b B.\n# TYPE b histogram\n\
                 b_bucket{{le=\"0.5\"}} 0\nb_bucket{{le=\"1000\"}} 1 # {{trace_id=\"00000000000000000000000000000abc\",\
                 span_id=\"0000000000000012\"}} 2.5 1700000000.007\nb_bucket{{{labels},le=\"+Inf\"}} 1\nb_sum 2.5\n# EOF\n"
            )
        );
    }
}
