//! Points in time as `START_TIME` prints them: strftime's letters with Envoy's fractions of a second, always in UTC.

use std::{io::Write as _, time::Duration};

/// A parsed format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TimeFormat(Box<[Piece]>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Piece {
    Plain(char),
    /// A letter of strftime.
    Letter(char),
    /// Seconds since 1970 (`%s`).
    Epoch,
    /// So many digits of the fraction (`%3f`; `%f` are nine).
    Fraction(u8),
    /// Seconds with so many digits of their fraction (`%E3S`).
    Seconds(u8),
}

impl Default for TimeFormat {
    /// ISO 8601 with milliseconds, as Envoy's.
    fn default() -> Self {
        Self::parse("%Y-%m-%dT%H:%M:%E3SZ").expect("every letter of it is one of LETTERS")
    }
}

const LETTERS: &str = "YmdeHIMSpjyBbhaAFTDRZzwu";
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl TimeFormat {
    /// Reads a format; `None` when it holds a letter that is not known.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                pieces.push(Piece::Plain(c));
                continue;
            }
            pieces.push(match rest.next()? {
                '%' => Piece::Plain('%'),
                's' => Piece::Epoch,
                'f' => Piece::Fraction(9),
                'E' => {
                    let digits = digit(rest.next()?)?;
                    if rest.next()? != 'S' {
                        return None;
                    }
                    Piece::Seconds(digits)
                }
                digits @ '1'..='9' => {
                    if rest.next()? != 'f' {
                        return None;
                    }
                    Piece::Fraction(digit(digits)?)
                }
                letter if LETTERS.contains(letter) => Piece::Letter(letter),
                _ => return None,
            });
        }
        Some(Self(pieces.into()))
    }

    /// Appends a point in time, since 1970.
    pub fn write(&self, since: Duration, out: &mut Vec<u8>) {
        let date = Date::of(since);
        for piece in &self.0 {
            match *piece {
                Piece::Plain(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Piece::Letter(letter) => date.write(letter, out),
                Piece::Epoch => push(out, format_args!("{}", since.as_secs())),
                Piece::Fraction(digits) => fraction(since, digits, out),
                Piece::Seconds(digits) => {
                    push(out, format_args!("{:02}.", date.second));
                    fraction(since, digits, out);
                }
            }
        }
    }
}

fn digit(c: char) -> Option<u8> {
    c.to_digit(10).filter(|digit| (1..=9).contains(digit)).and_then(|digit| u8::try_from(digit).ok())
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn fraction(since: Duration, digits: u8, out: &mut Vec<u8>) {
    let text = format!("{:09}", since.subsec_nanos());
    out.extend_from_slice(&text.as_bytes()[..usize::from(digits).min(text.len())]);
}

/// A date of the Gregorian calendar in UTC.
struct Date {
    year: u64,
    /// From 0.
    month: usize,
    day: u64,
    /// Of the year, from 1.
    yearday: u64,
    /// 0 is Sunday.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    fn of(since: Duration) -> Self {
        let (mut days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // The first day was a Thursday.
        let weekday = usize::try_from((days + 4) % 7).unwrap_or(0);
        // Whole cycles of 400 years, which are all alike, then single years and months.
        let mut year = 1970 + days / 146_097 * 400;
        days %= 146_097;
        while days >= length_of_year(year) {
            days -= length_of_year(year);
            year += 1;
        }
        let yearday = days + 1;
        let mut month = 0;
        while days >= length_of_month(year, month) {
            days -= length_of_month(year, month);
            month += 1;
        }
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Self { year, month, day: days + 1, yearday, weekday, hour, minute, second }
    }

    fn write(&self, letter: char, out: &mut Vec<u8>) {
        let (month, day) = (MONTHS[self.month], DAYS[self.weekday]);
        let noon = if self.hour.is_multiple_of(12) { 12 } else { self.hour % 12 };
        match letter {
            'Y' => push(out, format_args!("{:04}", self.year)),
            'y' => push(out, format_args!("{:02}", self.year % 100)),
            'm' => push(out, format_args!("{:02}", self.month + 1)),
            'd' => push(out, format_args!("{:02}", self.day)),
            'e' => push(out, format_args!("{:2}", self.day)),
            'H' => push(out, format_args!("{:02}", self.hour)),
            'I' => push(out, format_args!("{noon:02}")),
            'p' => push(out, format_args!("{}", if self.hour < 12 { "AM" } else { "PM" })),
            'M' => push(out, format_args!("{:02}", self.minute)),
            'S' => push(out, format_args!("{:02}", self.second)),
            'j' => push(out, format_args!("{:03}", self.yearday)),
            'B' => push(out, format_args!("{month}")),
            'b' | 'h' => push(out, format_args!("{}", &month[..3])),
            'A' => push(out, format_args!("{day}")),
            'a' => push(out, format_args!("{}", &day[..3])),
            'w' => push(out, format_args!("{}", self.weekday)),
            'u' => push(out, format_args!("{}", (self.weekday + 6) % 7 + 1)),
            'F' => push(out, format_args!("{:04}-{:02}-{:02}", self.year, self.month + 1, self.day)),
            'T' => push(out, format_args!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)),
            'R' => push(out, format_args!("{:02}:{:02}", self.hour, self.minute)),
            'D' => push(out, format_args!("{:02}/{:02}/{:02}", self.month + 1, self.day, self.year % 100)),
            'Z' => push(out, format_args!("UTC")),
            _ => push(out, format_args!("+0000")),
        }
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn length_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn length_of_month(year: u64, month: usize) -> u64 {
    const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if month == 1 && is_leap(year) { 29 } else { LENGTHS[month] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(format: &str, seconds: u64, nanos: u32) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format).unwrap().write(Duration::new(seconds, nanos), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_date_is_printed_letter_by_letter() {
        // Of `date -u -d @1709210096`.
        let at = |format: &str| printed(format, 1_709_210_096, 7_089_000);
        assert_eq!(at("%Y-%m-%dT%H:%M:%E3SZ"), "2024-02-29T12:34:56.007Z");
        assert_eq!(at("%a, %d %b %y %T %z %Z"), "Thu, 29 Feb 24 12:34:56 +0000 UTC");
        assert_eq!(
            at("%s.%3f %f %E6S %j %A %B %u %w %I%p %F %D %R %%"),
            "1709210096.007 007089000 56.007089 060 Thursday February 4 4 12PM 2024-02-29 02/29/24 12:34 %"
        );
        assert_eq!(printed("%F %e", 951_782_400, 0), "2000-02-29 29");
        assert_eq!(printed("%F %I%p%e", 4_107_542_400, 0), "2100-03-01 12AM 1");
        assert_eq!(printed("%F", 0, 0), "1970-01-01");
    }

    #[test]
    fn what_is_no_letter_is_refused() {
        for bad in ["%", "%Q", "%E3", "%E3X", "%3s", "%0f", "%E0S"] {
            assert_eq!(TimeFormat::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in 0u64..2_000_000) {
            let (today, tomorrow) =
                (Date::of(Duration::from_secs(day * 86_400)), Date::of(Duration::from_secs((day + 1) * 86_400)));
            let next_day = (today.year, today.month, today.day + 1);
            let next = match (today.day == length_of_month(today.year, today.month), today.month) {
                (false, _) => next_day,
                (true, 11) => (today.year + 1, 0, 1),
                (true, month) => (today.year, month + 1, 1),
            };
            prop_assert_eq!((tomorrow.year, tomorrow.month, tomorrow.day), next);
            prop_assert_eq!(tomorrow.weekday, (today.weekday + 1) % 7);
        }
    }
}
