//! Text to a tree that can be evaluated, with every name looked up.

use cel::{
    common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators as op},
    parser::PrattParser,
};

use super::{
    MOST_EXPRESSION, Value,
    fault::Fault,
    names::{self, Attribute},
};
use crate::{api::scalar::ProtoDuration, re2};

/// The deepest nesting, and the most parts: reading and evaluating go down into each other.
const DEEPEST: u16 = 32;
const MOST_PARTS: usize = 512;
/// The most operators.
const MOST_OPERATORS: usize = 200;

/// What a part of an expression is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Bool,
    Int,
    Double,
    Text,
    Moment,
    Span,
    Null,
    /// It depends.
    Any,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int | Self::Double => "a number",
            Self::Text => "a text",
            Self::Moment => "a point in time",
            Self::Span => "a duration",
            Self::Null => "nothing",
            Self::Any => "anything",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double | Self::Any)
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Any)
    }

    /// Whether both can be compared.
    fn meets(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any || (self.is_number() && other.is_number())
    }
}

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Constant(Value<'static>),
    Attribute(Attribute),
    Has(Attribute),
    Not(Box<Node>),
    Negated(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    If(Box<[Node; 3]>),
    Compared(Comparison, Box<[Node; 2]>),
    Among(Box<Node>, Box<[Node]>),
    Computed(Operator, Box<[Node; 2]>),
    Tested(Test, Box<[Node; 2]>),
    Matches(Box<Node>, re2::Expression),
    Changed(Change, Box<Node>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How two values become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What is asked of two texts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Test {
    Contains,
    StartsWith,
    EndsWith,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    ToText,
    ToInt,
    ToDouble,
    Size,
    Lower,
    Upper,
}

type Found = Result<(Node, Kind), Fault>;

/// Reads an expression.
pub(super) fn read(text: &str) -> Found {
    if text.len() > MOST_EXPRESSION {
        return Err(Fault::TooLong(text.len()));
    }
    if is_deep(text) {
        return Err(Fault::Meaning(format!(
            "it is too deep; {DEEPEST} brackets within each other and {MOST_OPERATORS} operators and calls are read at most"
        )));
    }
    let parser = PrattParser::new().max_recursion_depth(DEEPEST).max_expression_node_count(MOST_PARTS);
    let parsed =
        parser.parse(text).map_err(|errors| {
            let first = errors.errors.first();
            Fault::Syntax(first.map_or_else(String::new, |error| {
                format!("{} (line {}, column {})", error.msg, error.pos.0, error.pos.1)
            }))
        })?;
    node(&parsed.expr)
}

/// Whether a text may lead deeper than a stack does. What stands in quotes counts as well: only the parser knows where they end.
fn is_deep(text: &str) -> bool {
    let (mut depth, mut operators, mut before) = (0_u16, 0, false);
    for byte in text.bytes() {
        match byte {
            // Calls stand behind each other without being within each other, as `a.int().int()`.
            b'(' | b'[' | b'{' => (depth, operators) = (depth + 1, operators + 1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // Those that may stand before themselves count one by one.
        let single = matches!(byte, b'!' | b'-' | b'?');
        let operator = single || matches!(byte, b'+' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'&' | b'|');
        operators += usize::from(operator && (single || !before));
        before = operator;
        if depth > DEEPEST || operators > MOST_OPERATORS {
            return true;
        }
    }
    false
}

fn node(expression: &Expr) -> Found {
    if let Some(path) = path(expression) {
        let (attribute, kind) = names::attribute(&path)?;
        return Ok((Node::Attribute(attribute), kind));
    }
    match expression {
        Expr::Literal(literal) => constant(literal),
        Expr::Select(select) if select.test => presence(select),
        Expr::Call(call) => called(call),
        Expr::Comprehension(_) => Err(Fault::Loop),
        Expr::List(_) => Err(Fault::Meaning("a list stands behind `in` alone".to_owned())),
        Expr::Map(_) | Expr::Struct(_) => Err(Fault::Meaning("objects are not made here".to_owned())),
        Expr::Select(select) => Err(Fault::Meaning(format!("there is nothing that has a field `{}`", select.field))),
        Expr::Ident(_) | Expr::Unspecified => Err(Fault::Syntax("a part of it is missing".to_owned())),
    }
}

/// `a.b['c']` as `a`, `b`, `c`.
fn path(expression: &Expr) -> Option<Vec<&str>> {
    match expression {
        Expr::Ident(name) => Some(vec![name.trim_start_matches('.')]),
        Expr::Select(select) if !select.test => {
            let mut path = path(&select.operand.expr)?;
            path.push(&select.field);
            Some(path)
        }
        Expr::Call(call) if call.func_name == op::INDEX => {
            let [of, key] = &*call.args else { return None };
            let Expr::Literal(LiteralValue::String(key)) = &key.expr else { return None };
            let mut path = path(&of.expr)?;
            path.push(key.inner());
            Some(path)
        }
        _ => None,
    }
}

fn constant(literal: &LiteralValue) -> Found {
    let (value, kind) = match literal {
        LiteralValue::Boolean(it) => (Value::Bool(*it.inner()), Kind::Bool),
        LiteralValue::Int(it) => (Value::Int(*it.inner()), Kind::Int),
        LiteralValue::UInt(it) => {
            let number = i64::try_from(*it.inner()).map_err(|_| Fault::Meaning("a number is too large".to_owned()))?;
            (Value::Int(number), Kind::Int)
        }
        LiteralValue::Double(it) => (Value::Double(*it.inner()), Kind::Double),
        LiteralValue::String(it) => (Value::Text(it.inner().to_owned().into()), Kind::Text),
        LiteralValue::Null => (Value::Null, Kind::Null),
        LiteralValue::Bytes(_) => return Err(Fault::Meaning("write a text for bytes: `'a'` for `b'a'`".to_owned())),
    };
    Ok((Node::Constant(value), kind))
}

/// `has(a.b)`.
fn presence(select: &SelectExpr) -> Found {
    let mut path = path(&select.operand.expr)
        .ok_or_else(|| Fault::Meaning("`has` is asked of an attribute, as `has(request.headers.x)`".to_owned()))?;
    path.push(&select.field);
    Ok((Node::Has(names::attribute(&path)?.0), Kind::Bool))
}

fn called(call: &CallExpr) -> Found {
    let arguments: Vec<&Expr> =
        call.target.iter().map(|it| &it.expr).chain(call.args.iter().map(|it| &it.expr)).collect();
    match (&*call.func_name, &*arguments) {
        (op::IN, [needle, hay]) => among(needle, hay),
        (op::INDEX, _) => {
            Err(Fault::Meaning("a key is a text that stands there, as `request.headers['x-user']`".to_owned()))
        }
        ("matches", [text, Expr::Literal(LiteralValue::String(regex))]) => {
            let text = texts("matches", text)?;
            let regex = re2::Expression::part(regex.inner()).map_err(|fault| Fault::Regex(fault.to_string()))?;
            Ok((Node::Matches(text.into(), regex), Kind::Bool))
        }
        ("matches", _) => Err(Fault::Meaning("`matches` is given a regular expression that stands there".to_owned())),
        ("duration", [Expr::Literal(LiteralValue::String(text))]) => {
            let span: ProtoDuration = text
                .inner()
                .parse()
                .map_err(|_| Fault::Meaning(format!("`{}` is no duration; one as `1.5s` is wanted", text.inner())))?;
            Ok((Node::Constant(Value::Span(span.into())), Kind::Span))
        }
        (name, [one]) => unary(name, one),
        (name, [one, other]) => binary(name, one, other),
        (op::CONDITIONAL, [condition, yes, no]) => {
            let condition = conditions("?", condition)?;
            let ((yes, one), (no, other)) = (node(yes)?, node(no)?);
            let kind = if one == other { one } else { Kind::Any };
            Ok((Node::If(Box::new([condition, yes, no])), kind))
        }
        (name, _) => Err(Fault::Function(name.to_owned())),
    }
}

fn unary(name: &str, argument: &Expr) -> Found {
    let change = |change, kind| Ok((Node::Changed(change, Box::new(node(argument)?.0)), kind));
    match name {
        op::LOGICAL_NOT => Ok((Node::Not(conditions("!", argument)?.into()), Kind::Bool)),
        op::NEGATE => {
            let (node, kind) = node(argument)?;
            if !kind.is_number() {
                return Err(Fault::Meaning(format!("`-` is of numbers, and this is {}", kind.name())));
            }
            Ok((Node::Negated(node.into()), kind))
        }
        "string" => change(Change::ToText, Kind::Text),
        "int" | "uint" => change(Change::ToInt, Kind::Int),
        "double" => change(Change::ToDouble, Kind::Double),
        "size" => Ok((Node::Changed(Change::Size, texts(name, argument)?.into()), Kind::Int)),
        "lowerAscii" => Ok((Node::Changed(Change::Lower, texts(name, argument)?.into()), Kind::Text)),
        "upperAscii" => Ok((Node::Changed(Change::Upper, texts(name, argument)?.into()), Kind::Text)),
        name => Err(Fault::Function(name.to_owned())),
    }
}

fn binary(name: &str, one: &Expr, other: &Expr) -> Found {
    let test = |test| Ok((Node::Tested(test, Box::new([texts(name, one)?, texts(name, other)?])), Kind::Bool));
    match name {
        op::LOGICAL_AND => Ok((Node::And(Box::new([conditions("&&", one)?, conditions("&&", other)?])), Kind::Bool)),
        op::LOGICAL_OR => Ok((Node::Or(Box::new([conditions("||", one)?, conditions("||", other)?])), Kind::Bool)),
        op::EQUALS => compared(Comparison::Equal, "==", one, other),
        op::NOT_EQUALS => compared(Comparison::NotEqual, "!=", one, other),
        op::LESS => compared(Comparison::Less, "<", one, other),
        op::LESS_EQUALS => compared(Comparison::LessOrEqual, "<=", one, other),
        op::GREATER => compared(Comparison::Greater, ">", one, other),
        op::GREATER_EQUALS => compared(Comparison::GreaterOrEqual, ">=", one, other),
        op::ADD => computed(Operator::Add, "+", one, other),
        op::SUBSTRACT => computed(Operator::Subtract, "-", one, other),
        op::MULTIPLY => computed(Operator::Multiply, "*", one, other),
        op::DIVIDE => computed(Operator::Divide, "/", one, other),
        op::MODULO => computed(Operator::Remainder, "%", one, other),
        "contains" => test(Test::Contains),
        "startsWith" => test(Test::StartsWith),
        "endsWith" => test(Test::EndsWith),
        name => Err(Fault::Function(name.to_owned())),
    }
}

fn compared(how: Comparison, sign: &str, one: &Expr, other: &Expr) -> Found {
    let ((one, first), (other, second)) = (node(one)?, node(other)?);
    let equality = matches!(how, Comparison::Equal | Comparison::NotEqual);
    let nothing = first == Kind::Null || second == Kind::Null;
    let comparable = if nothing { equality } else { first.meets(second) };
    if !comparable {
        return Err(Fault::Meaning(format!("`{sign}` compares {} with {}", first.name(), second.name())));
    }
    Ok((Node::Compared(how, Box::new([one, other])), Kind::Bool))
}

fn computed(how: Operator, sign: &str, one: &Expr, other: &Expr) -> Found {
    let ((one, first), (other, second)) = (node(one)?, node(other)?);
    let kind = match (first, second) {
        (Kind::Text, Kind::Text) if how == Operator::Add => Kind::Text,
        (Kind::Int, Kind::Int) => Kind::Int,
        (Kind::Double, Kind::Double) if how != Operator::Remainder => Kind::Double,
        (Kind::Any, _) | (_, Kind::Any) => Kind::Any,
        _ => {
            let hint = if how == Operator::Add { "; `string(...)` makes a text of a number" } else { "" };
            return Err(Fault::Meaning(format!("`{sign}` of {} and {}{hint}", first.name(), second.name())));
        }
    };
    Ok((Node::Computed(how, Box::new([one, other])), kind))
}

/// `a in [b, c]`, or `'x-user' in request.headers`.
fn among(needle: &Expr, hay: &Expr) -> Found {
    if let (Expr::Literal(LiteralValue::String(name)), Some(path)) = (needle, path(hay)) {
        return match names::headers(&path, name.inner())? {
            Some(attribute) => Ok((Node::Has(attribute), Kind::Bool)),
            None => Err(Fault::Meaning("behind `in` stands a list, or headers, as `request.headers`".to_owned())),
        };
    }
    let Expr::List(list) = hay else {
        return Err(Fault::Meaning("behind `in` stands a list, or headers, as `request.headers`".to_owned()));
    };
    let (needle, kind) = node(needle)?;
    let mut entries = Vec::with_capacity(list.elements.len());
    for entry in &list.elements {
        let (entry, other) = node(&entry.expr)?;
        if !kind.meets(other) {
            return Err(Fault::Meaning(format!("`in` compares {} with {}", kind.name(), other.name())));
        }
        entries.push(entry);
    }
    Ok((Node::Among(needle.into(), entries.into()), Kind::Bool))
}

fn conditions(sign: &str, expression: &Expr) -> Result<Node, Fault> {
    match node(expression)? {
        (node, Kind::Bool | Kind::Any) => Ok(node),
        (_, other) => Err(Fault::Meaning(format!("`{sign}` is of conditions, and this is {}", other.name()))),
    }
}

fn texts(name: &str, expression: &Expr) -> Result<Node, Fault> {
    match node(expression)? {
        (node, kind) if kind.is_text() => Ok(node),
        (_, other) => Err(Fault::Meaning(format!("`{name}` is of texts, and this is {}", other.name()))),
    }
}
