//! Prometheus' text format, version 0.0.4.

use super::histogram::Histogram;
use std::fmt::{Display, Write};

/// The value of the answer's Content-Type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics in the making.
#[derive(Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Begins a family of metrics: `kind` is counter, gauge or histogram.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A family of one value.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }

    /// One value of the family.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.line(format_args!("{name}{} {value}", Labels(labels)));
    }

    /// One histogram of the family; `label` tells it from the others.
    pub fn histogram(&mut self, name: &str, label: (&str, &str), histogram: &Histogram) {
        let counts = histogram.read();
        for (bound, count) in &counts.cumulative {
            let bound = bound.to_string();
            self.line(format_args!("{name}_bucket{} {count}", Labels(&[label, ("le", &bound)])));
        }
        self.line(format_args!("{name}_bucket{} {}", Labels(&[label, ("le", "+Inf")]), counts.count));
        self.line(format_args!("{name}_sum{} {}", Labels(&[label]), counts.sum));
        self.line(format_args!("{name}_count{} {}", Labels(&[label]), counts.count));
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            write!(f, "{}{name}=\"{value}\"", if index == 0 { '{' } else { ',' })?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_labels_escaped() {
        let mut page = Page::default();
        page.single("a", "gauge", "Some help.", 1.5);
        page.value("b", &[("x", "say \"hi\"\\\n"), ("y", "z")], 2);
        let expected = "# HELP a Some help.\n# TYPE a gauge\na 1.5\nb{x=\"say \\\"hi\\\"\\\\\\n\",y=\"z\"} 2\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn histograms_are_cumulative_and_end_with_infinity() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        histogram.observe(0.7);
        histogram.observe(3.0);
        let mut page = Page::default();
        page.histogram("h", ("stage", "total"), &histogram);
        let lines = [
            "h_bucket{stage=\"total\",le=\"0.5\"} 0",
            "h_bucket{stage=\"total\",le=\"1\"} 1",
            "h_bucket{stage=\"total\",le=\"+Inf\"} 2",
            "h_sum{stage=\"total\"} 3.7",
            "h_count{stage=\"total\"} 2\n",
        ];
        assert_eq!(page.finish(), lines.join("\n"));
    }
}
