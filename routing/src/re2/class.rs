//! Sets of code points as RE2 forms them: Unicode groups, Perl's and POSIX's classes, case folding.

use std::sync::LazyLock;

use regex_syntax::{
    hir::{Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind},
    utf8::Utf8Sequences,
};

/// A set of code points. RE2 takes surrogates for code points like any other (`.` matches their three bytes), Rust does not,
/// so they are kept apart.
#[derive(Clone, Debug)]
pub(super) struct Runes {
    scalars: ClassUnicode,
    /// Less 0xD800 each.
    surrogates: ClassUnicode,
}

const FIRST_SURROGATE: u32 = 0xd800;
const LAST_SURROGATE: u32 = 0xdfff;
/// The last code point of all.
pub(super) const LAST: u32 = 0x0010_ffff;

impl Runes {
    pub(super) fn none() -> Self {
        Self { scalars: ClassUnicode::empty(), surrogates: ClassUnicode::empty() }
    }

    /// Every code point from one to another.
    pub(super) fn range(first: u32, last: u32) -> Self {
        let mut runes = Self::none();
        runes.add(first, last);
        runes
    }

    pub(super) fn add(&mut self, first: u32, last: u32) {
        let (below, above) = (last.min(FIRST_SURROGATE - 1), first.max(LAST_SURROGATE + 1));
        push(&mut self.scalars, first, below);
        push(&mut self.scalars, above, last);
        let (first, last) = (first.max(FIRST_SURROGATE), last.min(LAST_SURROGATE));
        if first <= last {
            push(&mut self.surrogates, first - FIRST_SURROGATE, last - FIRST_SURROGATE);
        }
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.scalars.union(&other.scalars);
        self.surrogates.union(&other.surrogates);
    }

    pub(super) fn negate(&mut self) {
        self.scalars.negate();
        self.surrogates.negate();
        let mut all = ClassUnicode::empty();
        push(&mut all, 0, LAST_SURROGATE - FIRST_SURROGATE);
        self.surrogates.intersect(&all);
    }

    /// Adds what differs only in case (Unicode's simple folding).
    pub(super) fn fold(&mut self) {
        let mut folded = assigned(self.scalars.clone());
        folded.case_fold_simple();
        self.scalars.union(&assigned(folded));
    }

    /// The only code point in it.
    pub(super) fn single(&self) -> Option<char> {
        let [only] = self.scalars.ranges() else { return None };
        (only.start() == only.end() && self.surrogates.ranges().is_empty()).then_some(only.start())
    }

    /// How many byte ranges it takes to tell it in UTF-8.
    pub(super) fn size(&self) -> u64 {
        let (scalars, rest) = self.parts();
        let ranges = scalars.iter().flat_map(|range| Utf8Sequences::new(range.start(), range.end()));
        let told: usize = ranges.map(|sequence| sequence.len()).sum();
        (told + rest.iter().map(Vec::len).sum::<usize>()) as u64
    }

    pub(super) fn into_hir(self) -> Hir {
        let (scalars, rest) = self.parts();
        let mut ways: Vec<Hir> = Vec::new();
        if !scalars.ranges().is_empty() {
            ways.push(Hir::class(Class::Unicode(scalars)));
        }
        ways.extend(rest.into_iter().map(|sequence| Hir::concat(sequence.into_iter().map(bytes).collect())));
        Hir::alternation(ways)
    }

    /// Characters, and sequences of bytes that Rust takes for none. Where a set holds all from U+0080 on, RE2 is content
    /// with the right number of continuation bytes, as `.` and `[^/]` are.
    fn parts(&self) -> (ClassUnicode, Vec<Vec<Bytes>>) {
        let mut beyond = Self::range(0x80, LAST);
        beyond.scalars.intersect(&self.scalars);
        beyond.surrogates.intersect(&self.surrogates);
        if beyond.is(&Self::range(0x80, LAST)) {
            let mut ascii = Self::range(0, 0x7f).scalars;
            ascii.intersect(&self.scalars);
            let follow: Bytes = (0x80, 0xbf);
            let more = [((0xc2, 0xdf), 1), ((0xe0, 0xef), 2), ((0xf0, 0xf4), 3)].map(|(lead, number)| {
                let mut sequence = vec![lead];
                sequence.resize(number + 1, follow);
                sequence
            });
            return (ascii, more.to_vec());
        }
        let surrogates = self.surrogate_sequences().into_iter();
        let surrogates = surrogates.map(|(second, third)| vec![(0xed, 0xed), second, third]);
        (self.scalars.clone(), surrogates.collect())
    }

    fn is(&self, other: &Self) -> bool {
        self.scalars == other.scalars && self.surrogates == other.surrogates
    }

    /// Ranges of the second and third byte of surrogates; the first is always 0xED.
    fn surrogate_sequences(&self) -> Vec<(Bytes, Bytes)> {
        let mut found: Vec<(Bytes, Bytes)> = Vec::new();
        for range in self.surrogates.iter() {
            let (first, last) = (u32::from(range.start()), u32::from(range.end()));
            for block in first >> 6..=last >> 6 {
                let low = if block == first >> 6 { first & 0x3f } else { 0 };
                let high = if block == last >> 6 { last & 0x3f } else { 0x3f };
                let (second, third) = (0xa0 + block as u8, (0x80 + low as u8, 0x80 + high as u8));
                match found.last_mut() {
                    Some((seconds, known)) if *known == third && seconds.1 + 1 == second => seconds.1 = second,
                    _ => found.push(((second, second), third)),
                }
            }
        }
        found
    }
}

/// From one byte to another.
type Bytes = (u8, u8);

/// Any of a range of bytes.
pub(super) fn bytes((first, last): Bytes) -> Hir {
    Hir::class(Class::Bytes(ClassBytes::new([ClassBytesRange::new(first, last)])))
}

fn push(class: &mut ClassUnicode, first: u32, last: u32) {
    if let (true, Some(first), Some(last)) = (first <= last, char::from_u32(first), char::from_u32(last)) {
        class.push(ClassUnicodeRange::new(first, last));
    }
}

/// `\d`, `\s` or `\w`: ASCII only, and `\s` without the vertical tab.
pub(super) fn perl(letter: char) -> Option<Runes> {
    Some(ascii(match letter {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' => WORD,
        _ => return None,
    }))
}

const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// `[:alpha:]` and its kind, by name.
pub(super) fn posix(name: &str) -> Option<Runes> {
    Some(ascii(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => WORD,
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    }))
}

fn ascii(ranges: &[(char, char)]) -> Runes {
    let mut runes = Runes::none();
    for &(first, last) in ranges {
        runes.add(first.into(), last.into());
    }
    runes
}

/// What `\p{...}` names: `Any`, a general category, or a script, spelt as RE2 spells them.
pub(super) fn unicode(name: &str) -> Option<Runes> {
    match name {
        "Any" => return Some(Runes::range(0, LAST)),
        "Cs" => return Some(Runes::range(FIRST_SURROGATE, LAST_SURROGATE)),
        _ => {}
    }
    let scalars = match name {
        // Without what is not assigned.
        "C" => unicode_class(r"[\p{Cc}\p{Cf}\p{Co}]"),
        // One mark has become a spacing one since.
        "Mc" => unicode_class(r"[\p{Mc}--\x{1171E}]"),
        "Mn" => unicode_class(r"[\p{Mn}\x{1171E}]"),
        _ if CATEGORIES.split(' ').any(|known| known == name) => unicode_class(&format!(r"\p{{gc={name}}}")),
        _ if SCRIPTS.split(' ').any(|known| known == name) => unicode_class(&format!(r"\p{{sc={name}}}")),
        _ => return None,
    };
    let mut runes = Runes { scalars: assigned(scalars), surrogates: ClassUnicode::empty() };
    if name == "C" {
        runes.add(FIRST_SURROGATE, LAST_SURROGATE);
    }
    Some(runes)
}

/// Whether a character may stand in the name of a group.
pub(super) fn names_a_group(c: char) -> bool {
    static NAMES: LazyLock<ClassUnicode> =
        LazyLock::new(|| assigned(unicode_class(r"[\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]")));
    NAMES.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c))
}

/// RE2 knows Unicode as of version 15.1; younger characters are in none of its groups.
fn assigned(mut class: ClassUnicode) -> ClassUnicode {
    static KNOWN: LazyLock<ClassUnicode> = LazyLock::new(|| unicode_class(r"\p{age=15.1}"));
    class.intersect(&KNOWN);
    class
}

/// A class out of the tables of `regex-syntax`, in its notation.
fn unicode_class(notation: &str) -> ClassUnicode {
    let parsed = regex_syntax::parse(notation).expect("the notations here are constant, and a test goes through all");
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class,
        // A class of one character is a literal there.
        HirKind::Literal(literal) => {
            let text = String::from_utf8_lossy(&literal.0).into_owned();
            ClassUnicode::new(text.chars().map(|c| ClassUnicodeRange::new(c, c)))
        }
        _ => ClassUnicode::empty(),
    }
}

/// The names that `\p{...}` takes.
pub fn unicode_groups() -> impl Iterator<Item = &'static str> {
    CATEGORIES.split(' ').chain(SCRIPTS.split(' ')).chain(["Any"])
}

const CATEGORIES: &str = "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm \
                                     So Z Zl Zp Zs";

const SCRIPTS: &str = "\
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki \
    Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee \
    Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan \
    Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi \
    Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited \
    Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi \
    Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian \
    Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui \
    Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari \
    Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic \
    Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage \
    Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan \
    Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri \
    Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh \
    Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square";
