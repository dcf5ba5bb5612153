//! Parses expressions in CEL and checks their types.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::parser::Parser;

use crate::expression::{Binary, Field, Fold, Node, Part, Text};
use crate::facts::root;
use crate::types::{Signature, Type, functions};

/// Deeper than this is no rule.
const MAX_DEPTH: u16 = 64;
/// Longer than this neither.
const MAX_LEN: usize = 4096;

/// Compiles an expression of an expected type.
///
/// # Errors
/// Line and column, and what was expected there.
pub(crate) fn compile(source: &str, expected: &Type) -> Result<Node, String> {
    let (node, found) = compile_any(source)?;
    match found.fits(expected) {
        true => Ok(node),
        false => Err(format!("1:1: it's a {found} where a {expected} is expected")),
    }
}

fn compile_any(source: &str) -> Result<(Node, Type), String> {
    if source.len() > MAX_LEN {
        return Err(format!("it's longer than {MAX_LEN} bytes"));
    }
    let parser = Parser::new().max_recursion_depth(MAX_DEPTH);
    let (expression, info) = parser.parse_with_source_info(source).map_err(|errors| {
        let first = errors.errors.first();
        first.map_or_else(
            || "it can't be parsed".to_owned(),
            |error| format!("{}:{}: {}", error.pos.0, error.pos.1, first_line(&error.msg)),
        )
    })?;
    let mut compiler = Compiler { source, info, functions: functions(), locals: Vec::new() };
    compiler.expression(&expression)
}

/// Compiles a text in which expressions stand between braces.
///
/// # Errors
/// As [`compile`], or a brace that isn't closed.
pub(crate) fn compile_text(text: &str) -> Result<Text, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (inside, after) = behind.split_once('}').ok_or("a `{` isn't closed")?;
        parts.push(Part::Plain(before.to_owned()));
        let (node, found) = compile_any(inside)?;
        if !matches!(found.present(), Type::Text | Type::Int | Type::Bool) {
            return Err(format!("{inside:?} is a {found}, which isn't text"));
        }
        parts.push(Part::Value(node));
        rest = after;
    }
    parts.push(Part::Plain(rest.to_owned()));
    Ok(Text(parts))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

struct Compiler<'s> {
    source: &'s str,
    info: SourceInfo,
    functions: Vec<Signature>,
    /// The variables of the comprehensions around, the outermost first.
    locals: Vec<(String, Type)>,
}

type Typed = Result<(Node, Type), String>;

impl Compiler<'_> {
    fn error(&self, at: u64, message: impl AsRef<str>) -> String {
        let start = self.info.offset_for(at).map_or(0, |(start, _)| start as usize);
        let before: String = self.source.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("{line}:{column}: {}", message.as_ref())
    }

    fn expression(&mut self, expression: &IdedExpr) -> Typed {
        let at = expression.id;
        match &expression.expr {
            Expr::Literal(literal) => self.literal(at, literal),
            Expr::Ident(name) => self.name(at, name),
            Expr::Select(select) => {
                let (operand, ty) = self.expression(&select.operand)?;
                let (field, of) = self.field(at, &ty, &select.field)?;
                Ok(match (select.test, field) {
                    (false, Ok(field)) => (Node::Field(Box::new(operand), field), of),
                    (true, Ok(field)) => (Node::Has(Box::new(operand), field), Type::Bool),
                    (false, Err(key)) => (Node::Index(Box::new(operand), Box::new(Node::Text(key))), of),
                    (true, Err(key)) => {
                        let is_in = Node::Binary(Binary::In, Box::new(Node::Text(key)), Box::new(operand));
                        (is_in, Type::Bool)
                    }
                })
            }
            Expr::List(list) => {
                let mut of = Type::Any;
                let mut nodes = Vec::new();
                for element in &list.elements {
                    let (node, ty) = self.expression(element)?;
                    if !ty.fits(&of) {
                        return Err(self.error(element.id, format!("a {ty} in a list of {of}")));
                    }
                    of = ty;
                    nodes.push(node);
                }
                Ok((Node::List(nodes), Type::list(of)))
            }
            Expr::Call(call) => self.call(at, call),
            Expr::Comprehension(fold) => self.fold(at, fold),
            _ => Err(self.error(at, "maps and messages can't be made in a rule")),
        }
    }

    fn literal(&self, at: u64, literal: &LiteralValue) -> Typed {
        Ok(match literal {
            LiteralValue::Null => (Node::Null, Type::Null),
            LiteralValue::Boolean(value) => (Node::Bool(*value.inner()), Type::Bool),
            LiteralValue::Int(value) => (Node::Int(*value.inner()), Type::Int),
            LiteralValue::String(value) => (Node::Text(value.inner().to_owned()), Type::Text),
            _ => return Err(self.error(at, "only null, bool, int and string can be written in a rule")),
        })
    }

    fn name(&self, at: u64, name: &str) -> Typed {
        if let Some(i) = self.locals.iter().rposition(|(local, _)| local == name) {
            let depth =
                u8::try_from(self.locals.len() - 1 - i).map_err(|_| self.error(at, "it's nested too deeply"))?;
            return Ok((Node::Local(depth), self.locals[i].1.clone()));
        }
        match root(name) {
            Some((number, ty)) => Ok((Node::Root(number), ty)),
            None => Err(self.error(
                at,
                format!(
                    "there is no {name}: there are request, original, source, target, places, option_paths, requester"
                ),
            )),
        }
    }

    /// A field of a type, or the key of a map.
    fn field(&self, at: u64, ty: &Type, name: &str) -> Result<(Result<Field, String>, Type), String> {
        if *ty.present() == Type::Map {
            return Ok((Err(name.to_owned()), Type::Text));
        }
        let fields = ty.fields();
        match fields.iter().find(|(known, ..)| *known == name) {
            Some((_, field, of)) => Ok((Ok(*field), of.clone())),
            None => {
                let names: Vec<&str> = fields.iter().map(|(name, ..)| *name).collect();
                let has =
                    if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
                Err(self.error(at, format!("a {ty} has no field {name}: {has}")))
            }
        }
    }

    fn call(&mut self, at: u64, call: &CallExpr) -> Typed {
        if let Some(namespace) = self.namespace(call) {
            return self.function(at, &format!("{namespace}.{}", call.func_name), &call.args);
        }
        if let Some(target) = &call.target {
            if let Expr::Ident(name) = &target.expr {
                self.name(target.id, name)?;
            }
            let arguments: Vec<IdedExpr> =
                std::iter::once((**target).clone()).chain(call.args.iter().cloned()).collect();
            return self.function(at, &format!(".{}", call.func_name), &arguments);
        }
        if let (Some(operator), [one, other]) = (binary(&call.func_name), call.args.as_slice()) {
            return self.binary(at, operator, one, other);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, one, other]) => {
                let condition = self.typed(condition, &Type::Bool)?;
                let ((one, ty), (other, of)) = (self.expression(one)?, self.expression(other)?);
                if !ty.is_comparable(&of) {
                    return Err(self.error(at, format!("one side is a {ty}, and the other a {of}")));
                }
                Ok((
                    Node::If(Box::new(condition), Box::new(one), Box::new(other)),
                    if ty == Type::Null { of } else { ty },
                ))
            }
            (operators::LOGICAL_NOT, [operand]) => {
                Ok((Node::Not(Box::new(self.typed(operand, &Type::Bool)?)), Type::Bool))
            }
            (operators::NEGATE, [operand]) => Ok((Node::Negate(Box::new(self.typed(operand, &Type::Int)?)), Type::Int)),
            (operators::LOGICAL_AND, operands) => self.chain(operands, Node::And),
            (operators::LOGICAL_OR, operands) => self.chain(operands, Node::Or),
            (operators::INDEX, [list, index]) => self.index(at, list, index),
            (name, arguments) => self.function(at, name, arguments),
        }
    }

    /// The word before a function that belongs to no value, as `path` in `path.within(…)`.
    fn namespace<'c>(&self, call: &'c CallExpr) -> Option<&'c str> {
        let Expr::Ident(name) = &call.target.as_ref()?.expr else { return None };
        let is_local = self.locals.iter().any(|(local, _)| local == name);
        (!is_local && matches!(name.as_str(), "path" | "mounts")).then_some(name)
    }

    fn typed(&mut self, expression: &IdedExpr, expected: &Type) -> Result<Node, String> {
        let (node, found) = self.expression(expression)?;
        match found.fits(expected) {
            true => Ok(node),
            false => Err(self.error(expression.id, format!("it's a {found} where a {expected} is expected"))),
        }
    }

    fn chain(&mut self, operands: &[IdedExpr], join: fn(Box<Node>, Box<Node>) -> Node) -> Typed {
        let mut joined: Option<Node> = None;
        for operand in operands {
            let next = self.typed(operand, &Type::Bool)?;
            joined = Some(match joined {
                Some(before) => join(Box::new(before), Box::new(next)),
                None => next,
            });
        }
        Ok((joined.unwrap_or_default(), Type::Bool))
    }

    fn index(&mut self, at: u64, list: &IdedExpr, index: &IdedExpr) -> Typed {
        let (node, ty) = self.expression(list)?;
        let (index, of) = match ty.present() {
            Type::List(of) => (self.typed(index, &Type::Int)?, (**of).clone()),
            Type::Map => (self.typed(index, &Type::Text)?, Type::Text),
            other => return Err(self.error(at, format!("a {other} has no elements"))),
        };
        Ok((Node::Index(Box::new(node), Box::new(index)), of))
    }

    fn binary(&mut self, at: u64, operator: Binary, one: &IdedExpr, other: &IdedExpr) -> Typed {
        let ((left, ty), (right, of)) = (self.expression(one)?, self.expression(other)?);
        let wrong = |what: &str| self.error(at, format!("{what}, not a {ty} and a {of}"));
        let both = |expected: Type| ty.present().fits(&expected) && of.present().fits(&expected);
        let returns = match operator {
            Binary::Equal | Binary::Differs if ty.is_comparable(&of) => Type::Bool,
            Binary::Equal | Binary::Differs => return Err(wrong("two values of one type are compared")),
            Binary::In => match of.present() {
                Type::List(element) if ty.is_comparable(element) => Type::Bool,
                Type::Map if ty.present().fits(&Type::Text) => Type::Bool,
                _ => return Err(wrong("`in` looks for a value in a list of such, or for a key in a map")),
            },
            Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual
                if both(Type::Int) || both(Type::Text) =>
            {
                Type::Bool
            }
            Binary::Add if both(Type::Text) => Type::Text,
            Binary::Add if matches!((&ty, &of), (Type::List(_), Type::List(_))) && ty.is_comparable(&of) => ty.clone(),
            Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo if both(Type::Int) => {
                Type::Int
            }
            _ => return Err(wrong("two numbers or two texts are expected")),
        };
        Ok((Node::Binary(operator, Box::new(left), Box::new(right)), returns))
    }

    fn function(&mut self, at: u64, name: &str, arguments: &[IdedExpr]) -> Typed {
        let Some(i) = self.functions.iter().position(|function| function.name == name) else {
            let usages: Vec<&str> =
                self.functions.iter().map(|known| known.usage).filter(|usage| !usage.is_empty()).collect();
            let name = name.trim_start_matches('.');
            return Err(self.error(at, format!("there is no function {name}: there are {}", usages.join(", "))));
        };
        let Signature { function, usage, .. } = self.functions[i];
        let (takes, returns) = (self.functions[i].takes.clone(), self.functions[i].returns.clone());
        if takes.len() != arguments.len() {
            return Err(self.error(at, format!("it's written {usage}")));
        }
        let mut nodes = Vec::new();
        for (argument, expected) in arguments.iter().zip(&takes) {
            let (node, found) = self.expression(argument)?;
            let is_place = *expected != Type::Any
                || matches!(
                    found.present(),
                    Type::Text
                        | Type::ResolvedPath
                        | Type::Place
                        | Type::List(_)
                        | Type::Map
                        | Type::Int
                        | Type::Bool
                        | Type::Any
                );
            if !found.present().fits(expected) || !is_place {
                return Err(self.error(argument.id, format!("a {found} can't stand here: it's written {usage}")));
            }
            nodes.push(node);
        }
        Ok((Node::Call(function, nodes), returns))
    }

    /// What the macros `all`, `exists`, `exists_one`, `map` and `filter` are made of.
    fn fold(&mut self, at: u64, fold: &ComprehensionExpr) -> Typed {
        let (list, ty) = self.expression(&fold.iter_range)?;
        let element = match ty.present() {
            Type::List(element) => (**element).clone(),
            Type::Map => Type::Text,
            other => return Err(self.error(at, format!("a {other} has no elements to go through"))),
        };
        let (start, mut accumulated) = self.expression(&fold.accu_init)?;
        // The list of a `map` or a `filter` begins empty: what it holds is known after a step.
        for _ in 0..2 {
            self.locals.push((fold.accu_var.clone(), accumulated.clone()));
            self.locals.push((fold.iter_var.clone(), element.clone()));
            let steps =
                self.expression(&fold.loop_cond).and_then(|goes_on| Ok((goes_on, self.expression(&fold.loop_step)?)));
            self.locals.pop();
            let (goes_on, (step, next)) = match steps {
                Ok(((goes_on, _), step)) => (goes_on, step),
                Err(error) => {
                    self.locals.pop();
                    return Err(error);
                }
            };
            if next != accumulated && accumulated == Type::list(Type::Any) {
                self.locals.pop();
                accumulated = next;
                continue;
            }
            let result = self.expression(&fold.result);
            self.locals.pop();
            let (result, returns) = result?;
            return Ok((Node::Fold(Box::new(Fold { list, start, goes_on, step, result })), returns));
        }
        Err(self.error(at, "the elements of its list have no single type"))
    }
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        operators::EQUALS => Binary::Equal,
        operators::NOT_EQUALS => Binary::Differs,
        operators::LESS => Binary::Less,
        operators::LESS_EQUALS => Binary::LessOrEqual,
        operators::GREATER => Binary::Greater,
        operators::GREATER_EQUALS => Binary::GreaterOrEqual,
        operators::IN => Binary::In,
        operators::ADD => Binary::Add,
        operators::SUBSTRACT => Binary::Subtract,
        operators::MULTIPLY => Binary::Multiply,
        operators::DIVIDE => Binary::Divide,
        operators::MODULO => Binary::Modulo,
        _ => return None,
    })
}
