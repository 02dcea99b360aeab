//! A tree to a value.

use std::{borrow::Cow, cmp::Ordering, time::Duration};

use super::{
    MOST_TEXT, Value,
    names::Attribute,
    read::{Change, Comparison, Node, Operator, Test},
};
use crate::{
    pattern::HeaderField,
    template::{Fact, Values, flags},
};

/// What a part is; `None`: that is not known.
pub(super) fn evaluate<'v>(node: &'v Node, values: &'v dyn Values) -> Option<Value<'v>> {
    Some(match node {
        Node::Constant(value) => borrowed(value),
        Node::Attribute(attribute) => asked(attribute, values)?,
        Node::Has(attribute) => Value::Bool(asked(attribute, values).is_some()),
        Node::Not(node) => Value::Bool(!truth(node, values)?),
        Node::Negated(node) => match evaluate(node, values)? {
            Value::Int(number) => Value::Int(number.checked_neg()?),
            Value::Double(number) => Value::Double(-number),
            _ => return None,
        },
        // Whichever side decides it, the other need not be known.
        Node::And(sides) => decided(sides, values, false)?,
        Node::Or(sides) => decided(sides, values, true)?,
        Node::If(parts) => {
            let [condition, yes, no] = &**parts;
            evaluate(if truth(condition, values)? { yes } else { no }, values)?
        }
        Node::Compared(how, sides) => Value::Bool(compared(*how, &both(sides, values)?)?),
        Node::Among(needle, list) => {
            let needle = evaluate(needle, values)?;
            Value::Bool(list.iter().any(|entry| evaluate(entry, values).is_some_and(|entry| entry.equals(&needle))))
        }
        Node::Computed(how, sides) => computed(*how, both(sides, values)?)?,
        Node::Tested(test, sides) => {
            let (one, other) = both(sides, values)?;
            let (one, other) = (text(&one)?, text(&other)?);
            Value::Bool(match test {
                Test::Contains => one.contains(other),
                Test::StartsWith => one.starts_with(other),
                Test::EndsWith => one.ends_with(other),
            })
        }
        Node::Matches(of, regex) => Value::Bool(regex.is_match(text(&evaluate(of, values)?)?)),
        Node::Changed(change, of) => changed(*change, evaluate(of, values)?)?,
    })
}

fn truth(node: &Node, values: &dyn Values) -> Option<bool> {
    match evaluate(node, values)? {
        Value::Bool(truth) => Some(truth),
        _ => None,
    }
}

fn decided<'v>([one, other]: &[Node; 2], values: &dyn Values, by: bool) -> Option<Value<'v>> {
    let first = truth(one, values);
    if first == Some(by) {
        return Some(Value::Bool(by));
    }
    match (first, truth(other, values)) {
        (_, Some(second)) if second == by => Some(Value::Bool(by)),
        (Some(_), Some(_)) => Some(Value::Bool(!by)),
        _ => None,
    }
}

fn both<'v>([one, other]: &'v [Node; 2], values: &'v dyn Values) -> Option<(Value<'v>, Value<'v>)> {
    Some((evaluate(one, values)?, evaluate(other, values)?))
}

fn borrowed<'v>(value: &'v Value<'static>) -> Value<'v> {
    match value {
        Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        other => other.clone(),
    }
}

fn text<'t>(value: &'t Value<'_>) -> Option<&'t str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn compared(how: Comparison, (one, other): &(Value<'_>, Value<'_>)) -> Option<bool> {
    Some(match how {
        Comparison::Equal => one.equals(other),
        Comparison::NotEqual => !one.equals(other),
        Comparison::Less => one.order(other)? == Ordering::Less,
        Comparison::LessOrEqual => one.order(other)? != Ordering::Greater,
        Comparison::Greater => one.order(other)? == Ordering::Greater,
        Comparison::GreaterOrEqual => one.order(other)? != Ordering::Less,
    })
}

fn computed<'v>(how: Operator, sides: (Value<'v>, Value<'v>)) -> Option<Value<'v>> {
    Some(match sides {
        (Value::Text(one), Value::Text(other)) if how == Operator::Add => {
            if one.len() + other.len() > MOST_TEXT {
                return None;
            }
            Value::Text(Cow::Owned(one.into_owned() + &other))
        }
        (Value::Int(one), Value::Int(other)) => Value::Int(match how {
            Operator::Add => one.checked_add(other)?,
            Operator::Subtract => one.checked_sub(other)?,
            Operator::Multiply => one.checked_mul(other)?,
            Operator::Divide => one.checked_div(other)?,
            Operator::Remainder => one.checked_rem(other)?,
        }),
        (Value::Double(one), Value::Double(other)) => Value::Double(match how {
            Operator::Add => one + other,
            Operator::Subtract => one - other,
            Operator::Multiply => one * other,
            Operator::Divide => one / other,
            Operator::Remainder => return None,
        }),
        _ => return None,
    })
}

fn changed(change: Change, value: Value<'_>) -> Option<Value<'_>> {
    Some(match (change, value) {
        (Change::ToText, value @ Value::Text(_)) => value,
        (Change::ToText, value) => {
            let mut text = Vec::new();
            value.write(&mut text).then_some(())?;
            Value::Text(String::from_utf8(text).ok()?.into())
        }
        (Change::ToInt, Value::Int(number)) => Value::Int(number),
        // A cast of Rust stays within the borders.
        (Change::ToInt, Value::Double(number)) => Value::Int(number as i64),
        (Change::ToInt, Value::Text(text)) => Value::Int(text.parse().ok()?),
        (Change::ToInt, Value::Moment(time)) => Value::Int(i64::try_from(time.as_secs()).ok()?),
        (Change::ToDouble, Value::Int(number)) => Value::Double(number as f64),
        (Change::ToDouble, Value::Double(number)) => Value::Double(number),
        (Change::ToDouble, Value::Text(text)) => Value::Double(text.parse().ok()?),
        (Change::Size, Value::Text(text)) => Value::Int(i64::try_from(text.chars().count()).ok()?),
        (Change::Lower, Value::Text(text)) => Value::Text(text.to_ascii_lowercase().into()),
        (Change::Upper, Value::Text(text)) => Value::Text(text.to_ascii_uppercase().into()),
        _ => return None,
    })
}

fn asked<'v>(attribute: &'v Attribute, values: &'v dyn Values) -> Option<Value<'v>> {
    Some(match attribute {
        Attribute::Request(field) => Value::Text(lossy(values.request(field)?)),
        Attribute::UrlPath => {
            let path = lossy(values.request(&HeaderField::Path)?);
            let end = path.find('?').unwrap_or(path.len());
            Value::Text(cut(path, 0, end))
        }
        Attribute::Query => {
            let path = lossy(values.request(&HeaderField::Path)?);
            let begin = path.find('?').map_or(path.len(), |at| at + 1);
            let end = path[begin..].find('#').map_or(path.len(), |at| begin + at);
            Value::Text(cut(path, begin, end))
        }
        Attribute::Response(field) => Value::Text(lossy(values.response(field)?)),
        Attribute::Trailer(name) => Value::Text(lossy(values.trailer(name)?)),
        Attribute::Text(fact) => Value::Text(String::from_utf8_lossy(&told(*fact, values)?).into_owned().into()),
        Attribute::First(fact) => {
            let mut all = told(*fact, values)?;
            all.truncate(all.iter().position(|byte| *byte == b',').unwrap_or(all.len()));
            Value::Text(String::from_utf8_lossy(&all).into_owned().into())
        }
        Attribute::Number(fact) => {
            let number = number(*fact, values)?;
            // No answer is one that has no code.
            Value::Int(Some(number).filter(|number| *fact != Fact::ResponseCode || *number != 0)?)
        }
        Attribute::Milliseconds(fact) => {
            Value::Span(Duration::from_millis(u64::try_from(number(*fact, values)?).ok()?))
        }
        Attribute::Sum(one, other) => Value::Int(number(*one, values)?.checked_add(number(*other, values)?)?),
        Attribute::Told(fact) => Value::Bool(told(*fact, values).is_some()),
        Attribute::Flags => {
            let mut text = Vec::new();
            values.fact(Fact::ResponseFlags, &mut text);
            Value::Int(flags::bits(&text))
        }
        Attribute::Start => Value::Moment(values.start()),
        Attribute::Peer(side, field) => Value::Text(values.peer(*side, *field)?),
    })
}

fn told(fact: Fact, values: &dyn Values) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    values.fact(fact, &mut text);
    (!text.is_empty()).then_some(text)
}

fn number(fact: Fact, values: &dyn Values) -> Option<i64> {
    std::str::from_utf8(&told(fact, values)?).ok()?.parse().ok()
}

fn lossy(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

fn cut(text: Cow<'_, str>, begin: usize, end: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[begin..end]),
        Cow::Owned(text) => Cow::Owned(text[begin..end].to_owned()),
    }
}
