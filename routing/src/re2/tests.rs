use std::thread;

use proptest::prelude::*;

use super::*;

/// A text of the table, or `None` for none.
fn text(written: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = match written {
        "-" => return None,
        "<empty>" => "",
        other => other,
    };
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let (kind, more) = after.split_at(1);
        rest = more;
        match kind {
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "s" => bytes.push(b' '),
            "x" => {
                bytes.push(u8::from_str_radix(&more[..2], 16).unwrap());
                rest = &more[2..];
            }
            other => panic!("`\\{other}` means nothing in this table"),
        }
    }
    bytes.extend(rest.bytes());
    Some(bytes)
}

#[test]
fn every_line_of_the_documented_syntax_means_what_it_means_to_re2() {
    let mut wrong = Vec::new();
    let lines = include_str!("../../testdata/re2.txt").lines();
    let cases: Vec<&str> = lines.filter(|line| line.contains('\t')).collect();
    assert!(cases.len() > 280, "{} cases", cases.len());
    for case in cases {
        let columns: Vec<&str> = case.split('\t').collect();
        let compiled = Expression::whole(columns[0]);
        match (&columns[1..], compiled) {
            (["refused"], compiled) => wrong.extend(compiled.ok().map(|_| format!("{case}: accepted"))),
            ([_, _], Err(fault)) => wrong.push(format!("{case}: {fault}")),
            ([yes, no], Ok(expression)) => {
                for (column, expected) in [(yes, true), (no, false)] {
                    let texts = column
                        .split(' ')
                        .filter(|written| text(written).is_some_and(|it| expression.is_match(it) != expected));
                    wrong.extend(texts.filter(|written| *written != "-").map(|written| format!("{case}: {written}")));
                }
            }
            _ => wrong.push(format!("{case}: not three columns")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_group_of_unicode_that_re2_knows_is_known() {
    for name in unicode_groups() {
        assert!(class::unicode(name).is_some_and(|runes| runes.size() > 0), "{name}");
    }
}

#[test]
fn a_refusal_says_what_is_wrong_and_what_would_be_right() {
    let cases = [
        ("(?=a)", "invalid perl operator: `(?=` (RE2 has no lookaround)"),
        ("(?<!a)b", "invalid perl operator: `(?<!` (RE2 has no lookaround)"),
        (r"(a)\1", r"invalid escape sequence: `\1` (RE2 has no backreferences)"),
        (r"a\Z", r"invalid escape sequence: `\Z` (the end of the text is `\z`)"),
        (
            "a++",
            "bad repetition operator: `++` (RE2 has no possessive operators; put what is repeated twice into `(?:...)`)",
        ),
        ("/v[0-9", "missing ]: `[0-9`"),
        ("/(a|b", "missing ): `/(a|b`"),
        ("/a)", "unexpected ): `/a)`"),
        ("*.example.com", "no argument for repetition operator: `*`"),
        (
            "a{2000}",
            "invalid repetition size: `{2000}` (at most 1000 repetitions, nested ones multiplied, and the smaller number first)",
        ),
        (r"\p{IsGreek}", r"invalid character class range: `\p{IsGreek}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a\\", "trailing \\"),
    ];
    for (pattern, words) in cases {
        let fault = Expression::size(pattern).unwrap_err();
        assert_eq!(fault.to_string(), words);
        assert!(fault.is_syntax());
    }
    let large = Expression::size(r"\pL{100}").unwrap_err();
    assert!(!large.is_syntax(), "RE2 has this one, it is only too large: {large}");
}

#[test]
fn every_match_gives_way_as_re2_lets_it() {
    let cases = [
        ("b(.)", r"\1x", "/ba/bc", "/ax/cx"),
        ("x*", "-", "abc", "-a-b-c-"),
        ("b*", "-", "abé", "-a-é-"),
        ("", ".", "ab", ".a.b."),
        ("^/a", "", "/a/a", "/a"),
        ("(a)|(b)", r"<\1\2>", "ab", "<a><b>"),
        ("a", r"\0\\$1${2}", "a", r"a\$1${2}"),
        ("(?P<n>a)(b)?", r"\2\1", "a", "a"),
        // There is no second group.
        ("(a)", r"\2", "a", "a"),
        (r"\C", "x", "é", "xx"),
    ];
    for (pattern, with, text, expected) in cases {
        let with = Substitution::new(with).unwrap();
        assert_eq!(Expression::part(pattern).unwrap().replace_all(text, &with), expected, "{pattern} {with:?} {text}");
    }
    for wrong in [r"\a", r"a\", r"\$"] {
        assert!(Substitution::new(wrong).unwrap_err().to_string().starts_with(r"bad substitution: `\"), "{wrong}");
    }
}

#[test]
fn the_deepest_expression_needs_no_deeper_stack_than_a_thread_has() {
    let deepest = ["(".repeat(512) + &")".repeat(512), "(?:".repeat(256) + "a" + &")*".repeat(255) + ")"];
    let read = move || deepest.iter().all(|pattern| Expression::whole(pattern).is_ok_and(|it| it.is_match("")));
    let small = thread::Builder::new().stack_size(1 << 20).spawn(read).unwrap();
    assert!(small.join().is_ok_and(|all| all));
}

proptest! {
    #[test]
    fn any_text_is_an_expression_or_a_fault(pattern in "\\PC{0,40}", text in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(expression) = Expression::whole(&pattern) {
            expression.is_match(text);
        }
    }

    #[test]
    fn a_quoted_text_matches_itself_alone(text in "[^\\\\]{0,10}", other in ".{0,10}") {
        let expression = Expression::whole(&format!(r"\Q{text}\E")).unwrap();
        prop_assert!(expression.is_match(&text));
        prop_assert_eq!(expression.is_match(&other), text == other);
    }
}
