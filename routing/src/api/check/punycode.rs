//! What DNS calls a host whose name is written in letters of the world (RFC 3492), for hints.

/// A host in ASCII; `None` when it cannot be.
pub(super) fn ascii_host(host: &str) -> Option<String> {
    // Full stops of other scripts separate labels, too.
    let host = host.replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".");
    let labels: Option<Vec<String>> = host.split('.').map(ascii_label).collect();
    let ascii = labels?.join(".");
    super::names::is_host_name(ascii.strip_prefix("*.").unwrap_or(&ascii)).then_some(ascii)
}

fn ascii_label(label: &str) -> Option<String> {
    if label.is_ascii() {
        return Some(label.to_owned());
    }
    // No label is longer (RFC 1035 section 2.3.4), and what follows takes its time with each letter.
    if label.chars().count() > 63 {
        return None;
    }
    let lower: String = label.chars().flat_map(char::to_lowercase).collect();
    if !lower.chars().all(|letter| letter.is_alphanumeric() || letter == '-') {
        return None;
    }
    Some(format!("xn--{}", encode(&lower)?))
}

const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const FIRST_BIAS: u32 = 72;
const FIRST_BEYOND_ASCII: u32 = 128;

/// Section 6.3 of the RFC; `None` when a number grows too large.
fn encode(label: &str) -> Option<String> {
    let letters: Vec<u32> = label.chars().map(u32::from).collect();
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(out.len()).ok()?;
    if basic > 0 {
        out.push('-');
    }
    let (mut n, mut delta, mut bias, mut done) = (FIRST_BEYOND_ASCII, 0_u32, FIRST_BIAS, basic);
    while (done as usize) < letters.len() {
        let next = letters.iter().copied().filter(|letter| *letter >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(done + 1)?)?;
        n = next;
        for &letter in &letters {
            if letter < n {
                delta = delta.checked_add(1)?;
            }
            if letter == n {
                push_number(&mut out, delta, bias)?;
                bias = adapt(delta, done + 1, done == basic);
                delta = 0;
                done += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(out)
}

/// A number of variable length: little end first, the last digit below its threshold.
fn push_number(out: &mut String, number: u32, bias: u32) -> Option<()> {
    let mut rest = number;
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if rest < threshold {
            out.push(char::from_digit(rest, BASE).map(rotated)?);
            return Some(());
        }
        let digit = threshold + (rest - threshold) % (BASE - threshold);
        out.push(char::from_digit(digit, BASE).map(rotated)?);
        rest = (rest - threshold) / (BASE - threshold);
        k += BASE;
    }
}

/// Rust counts 0 to 9 and then a to z, the RFC the other way round.
fn rotated(digit: char) -> char {
    let value = digit.to_digit(BASE).unwrap_or(0);
    let letter = if value < 26 { b'a' } else { b'0' - 26 };
    u8::try_from(value).map_or('a', |value| char::from(letter + value))
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_that_is_too_long_for_dns_is_not_looked_at() {
        assert!(ascii_host(&"ü".repeat(50)).is_some());
        assert_eq!(ascii_host(&"ü".repeat(1 << 20)), None);
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_host_or_nothing(text in "\\PC{0,40}") {
            if let Some(ascii) = ascii_host(&text) {
                prop_assert!(ascii.is_ascii() && !ascii.contains(' '), "{ascii}");
            }
        }
    }

    #[test]
    fn hosts_become_what_registries_list() {
        for (host, ascii) in [
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("*.münchen.de", "*.xn--mnchen-3ya.de"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
            ("παράδειγμα.δοκιμή", "xn--hxajbheg2az3al.xn--jxalpdlp"),
            ("مثال.إختبار", "xn--mgbh0fb.xn--kgbechtv"),
            ("faß.de", "xn--fa-hia.de"),
        ] {
            assert_eq!(ascii_host(host).as_deref(), Some(ascii), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_gets_no_hint() {
        for host in ["bü cher.example", "“quoted”.example", "ü..example", "smile😀.example"] {
            assert_eq!(ascii_host(host), None, "{host}");
        }
    }
}
