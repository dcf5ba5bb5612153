//! How large a plugin's code may be, looked at before it's compiled: a small file can keep the compiler busy for minutes.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::policy::fault::Fault;
use crate::policy::limits::{FUNCTION_BYTES, FUNCTIONS, NESTED_BLOCKS, NESTED_LOOPS, PLUGIN_BYTES};

/// Refuses a plugin whose code is too large or too deeply nested to be compiled. What isn't sound passes: the compiler refuses
/// it before it does any work.
pub(super) fn check(plugin: &[u8]) -> Result<(), Fault> {
    if plugin.len() > PLUGIN_BYTES {
        return Err(too_large(&format!("it has {} bytes, and at most {PLUGIN_BYTES} may be", plugin.len())));
    }
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(plugin) {
        let Ok(payload) = payload else { return Ok(()) };
        let Payload::CodeSectionEntry(body) = payload else { continue };
        functions += 1;
        if functions > FUNCTIONS {
            return Err(too_large(&format!("it has more than {FUNCTIONS} functions")));
        }
        check_function(&body)?;
    }
    Ok(())
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), Fault> {
    let len = body.range().len();
    if len > FUNCTION_BYTES {
        return Err(too_large(&format!("a function has {len} bytes, and at most {FUNCTION_BYTES} may be")));
    }
    let Ok(mut operators) = body.get_operators_reader() else { return Ok(()) };
    // Whether each block that is open is a loop.
    let mut open = Vec::new();
    let mut loops = 0;
    while !operators.eof() {
        let Ok(operator) = operators.read() else { return Ok(()) };
        match operator {
            Operator::Loop { .. } => {
                open.push(true);
                loops += 1;
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => open.push(false),
            Operator::End => loops -= usize::from(open.pop() == Some(true)),
            _ => {}
        }
        if loops > NESTED_LOOPS || open.len() > NESTED_BLOCKS {
            let message =
                format!("a function has more than {NESTED_LOOPS} loops or {NESTED_BLOCKS} blocks within each other");
            return Err(too_large(&message));
        }
    }
    Ok(())
}

fn too_large(what: &str) -> Fault {
    Fault::new(format!("its plugin is too large to be compiled: {what}"), "build it smaller, or split its work")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one function of so many loops within each other.
    fn nested(loops: usize) -> Vec<u8> {
        let number = |mut n: usize| {
            let mut bytes = Vec::new();
            while n >= 0x80 {
                bytes.push((n & 0x7f | 0x80).try_into().unwrap_or(0));
                n >>= 7;
            }
            bytes.push(n.try_into().unwrap_or(0));
            bytes
        };
        let mut body = vec![0];
        body.extend([0x03, 0x40].repeat(loops));
        body.extend([0x0b].repeat(loops + 1));
        let mut code = vec![1];
        code.extend(number(body.len()));
        code.extend(body);
        let mut module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
        module.extend(number(code.len()));
        module.extend(code);
        module
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_compiled() {
        assert!(check(&nested(NESTED_LOOPS)).is_ok());
        let fault = check(&nested(2000)).expect_err("too deep");
        assert!(fault.message.contains("loops"), "{}", fault.message);
    }

    #[test]
    fn what_is_not_sound_is_left_to_the_compiler() {
        assert!(check(b"no plugin").is_ok());
        assert!(check(&nested(3)[..20]).is_ok());
    }
}
