//! What expressions come to.

use std::sync::Arc;

use gantry_object::Value;
use serde_json::json;

use crate::{CALL_LIMIT, Context, Decl, Env, Program, Val};

/// The value, or the first line of what is wrong.
fn eval(text: &str) -> String {
    let program = match Program::compile(&Env::new(), text, &[]) {
        Ok(program) => program,
        Err(problems) => return problems.lines().next().unwrap_or_default().trim_start_matches("ERROR: <input>:").to_owned(),
    };
    match program.run(Vec::new()) {
        Ok(value) => format!("{value:?}"),
        Err(fault) => format!("fault: {fault}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, wanted) in cases {
        assert_eq!(eval(text), *wanted, "{text}");
    }
}

#[test]
fn arithmetic_and_logic() {
    check(&[
        ("1 + 2 * 3 - -4", "11"),
        ("7 / 2 == 3 && 7 % 2 == 1", "true"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807 + 1", "fault: integer overflow"),
        ("1 / 0", "fault: division by zero"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 || true", "true"),
        ("true ? 'a' : 'b'", "\"a\""),
        ("1 < 2.5 && 2u > 1 && 1.0 == 1.0", "true"),
        ("!!true", "true"),
        ("0x10 + 1", "17"),
        ("'\\u00e4\\x41\\n' == 'äA\\n' && r'\\d' == '\\\\d' && '''a'b''' == \"a'b\"", "true"),
        ("type(1) == int && type('a') == string && type([]) == list && type(null) == null_type", "true"),
        ("string(1000000.0) + ' ' + string(1.5) + ' ' + string(0.00001)", "\"1e+06 1.5 1e-05\""),
        ("int('12') + int(3.9) + int(duration('1s')) / 1000000000", "16"),
        ("dyn(1) == 'a'", "false"),
    ]);
}

#[test]
fn lists_maps_and_macros() {
    check(&[
        ("[1, 2, 3].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2, 2].exists_one(x, x == 1)", "true"),
        ("[1, 2, 3].filter(x, x % 2 == 1).map(x, x * 10)", "[10,30]"),
        ("[1, 2, 3].map(x, x > 1, x + 1)", "[3,4]"),
        ("{'a': 1, 'b': 2}.all(k, k in ['a', 'b'])", "true"),
        ("{'a': 1}.transformMap(k, v, v + 1)", "{\"a\":2}"),
        ("{'a': 1}.transformMapEntry(k, v, {k + 'x': v})", "{\"ax\":1}"),
        ("[5, 6].transformList(i, v, i * 10 + v)", "[5,16]"),
        ("[1, 2].all(i, v, v == i + 1)", "true"),
        ("{'a': 1}['b']", "fault: no such key: b"),
        ("[1][1]", "fault: index out of bounds: 1"),
        ("has({'a': 1}.a) && !has({'a': 1}.b)", "true"),
        ("[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sortBy(x, x) == ['a', 'b']", "true"),
        ("[1, 2, 3].sum() + [1, 5].max() + [4, 2].min() + [7, 8].indexOf(8)", "14"),
        ("[[1], [2]].flatten() == [1, 2] && lists.range(3) == [0, 1, 2] && [1, 1].distinct() == [1]", "true"),
        ("[1, 2, 3].slice(1, 3).reverse()", "[3,2]"),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])", "true"),
        ("[1, 2].isSorted() && ![2, 1].isSorted()", "true"),
        ("[1, 1.0 == 1.0]", "1:9: expected type 'int' but found 'bool'"),
    ]);
}

#[test]
fn optional_values() {
    check(&[
        ("{'a': {'b': 1}}.?a.?b.orValue(0) + {'a': 1}[?'x'].orValue(5)", "6"),
        ("optional.of(1).optMap(x, x + 1).value()", "2"),
        ("optional.none().hasValue()", "false"),
        ("optional.of(1).optFlatMap(x, optional.of(x)).orValue(3)", "1"),
        ("[?optional.none(), 1]", "[1]"),
        ("{?'a': optional.of(1), ?'b': optional.none()}", "{\"a\":1}"),
        ("[1].first().value() + [1, 2].last().value()", "3"),
        ("optional.none().or(optional.of(4)).value()", "4"),
    ]);
}

#[test]
fn texts_and_times() {
    check(&[
        ("'abc'.substring(1) + 'abc'.charAt(0) + 'a,b'.split(',')[1]", "\"bcab\""),
        ("'aXbX'.replace('X', '-') + 'aXbX'.replace('X', '-', 1)", "\"a-b-a-bX\""),
        ("'tacocat'.indexOf('a', 3) + 'tacocat'.lastIndexOf('a')", "10"),
        ("' Ab '.trim().lowerAscii() + ['a', 'b'].join('|')", "\"aba|b\""),
        (
            "'%s is %d or %.2f or %x'.format(['a'] + ['b'])",
            "fault: error during formatting: decimal clause can only be used on integers, was given string (at 6)",
        ),
        ("'%s %d'.format([dyn(['a']), dyn(1)])", "\"[\\\"a\\\"] 1\""),
        ("'a1b22'.find('[0-9]+') + 'a1b22'.findAll('[0-9]+')[1]", "\"122\""),
        ("'abc'.matches('^a.c$') && !'abd'.matches('c$')", "true"),
        ("'a'.matches('(')", "1:13: invalid matches argument"),
        ("timestamp('2020-02-03T04:05:06Z').getHours() + timestamp('2020-02-03T04:05:06Z').getHours('+02:00')", "10"),
        ("string(timestamp('2020-02-03T04:05:06Z') + duration('1h'))", "\"2020-02-03T05:05:06Z\""),
        ("duration('90m').getHours()", "1"),
        ("duration('x')", "1:10: invalid duration argument"),
    ]);
}

#[test]
fn libraries() {
    check(&[
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1500m').add(1).asApproximateFloat() == 2.5", "true"),
        ("isQuantity('abc')", "false"),
        ("ip('192.168.0.1').family() == 4 && cidr('192.168.0.0/24').containsIP('192.168.0.7') && !isIP('1.2.3')", "true"),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && string(cidr('10.1.2.3/8').masked()) == '10.0.0.0/8'", "true"),
        ("ip.isCanonical('::1') && ip('fe80::1').isLinkLocalUnicast()", "true"),
        ("url('https://example.com:80/a?b=c').getHostname() + url('https://example.com:80/a?b=c').getQuery()['b'][0]", "\"example.comc\""),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1', true).major() == 1 && !isSemver('1.2')", "true"),
        ("format.dns1123Label().validate('a-b').hasValue() || !format.named('uuid').value().validate('x').hasValue()", "false"),
        ("net.IP == type(ip('::1'))", "true"),
    ]);
}

#[test]
fn what_is_wrong_is_told_as_upstream_tells_it() {
    check(&[
        ("foo", "1:1: undeclared reference to 'foo' (in container '')"),
        (
            "1 +",
            "1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("(1", "1:3: Syntax error: missing ')' at '<EOF>'"),
        ("1)", "1:2: Syntax error: extraneous input ')' expecting <EOF>"),
        ("1 + 'a'", "1:3: found no matching overload for '_+_' applied to '(int, string)'"),
        ("'a'.startsWith(1)", "1:15: found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("1 && true", "1:1: expected type 'bool' but found 'int'"),
        ("1.map(x, x)", "1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)"),
        ("package", "1:1: reserved identifier: package"),
    ]);
    let shown = Program::compile(&Env::new(), "1 +\n  foo", &[]).unwrap_err();
    assert_eq!(shown, "ERROR: <input>:2:3: undeclared reference to 'foo' (in container '')\n |   foo\n | ..^");
}

type Sizes = Vec<(Arc<str>, Arc<Decl>)>;

fn declared(schema: &Value) -> (Env, Sizes) {
    let decl = Arc::new(Decl::of_schema(schema, false, "selfType").unwrap());
    (Env::new().with("self", &decl), vec![("self".into(), decl)])
}

/// The value over an object of a schema, and the estimated and the real cost.
fn over(schema: &Value, object: &Value, text: &str) -> (String, u64, u64) {
    let (env, sizes) = declared(schema);
    let program = match Program::compile(&env, text, &sizes) {
        Ok(program) => program,
        Err(problems) => return (problems.lines().next().unwrap_or_default().to_owned(), 0, 0),
    };
    let mut context = Context::new(vec![Some(Val::read(object, &sizes[0].1).unwrap())], CALL_LIMIT);
    let value = program.eval(&mut context);
    (value.map_or_else(|f| f.to_string(), |v| format!("{v:?}")), program.max_cost(), context.cost())
}

#[test]
fn objects_are_read_as_their_schema_has_it() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "f": {"type": "number"}, "when": {"type": "string", "format": "date-time"}, "for": {"type": "string", "format": "duration"},
        "either": {"x-kubernetes-int-or-string": true}, "a-b": {"type": "string"}, "bytes": {"type": "string", "format": "byte"},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "named": {"type": "object", "additionalProperties": {"type": "integer"}}}});
    let object = json!({"n": 1, "f": 2, "when": "2020-01-01T00:00:00Z", "for": "1h", "either": "50%", "a-b": "x", "bytes": "aGk=",
        "set": ["a", "b"], "map": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "named": {"x": 1}});
    for text in [
        "self.n == 1 && self.f / 2.0 == 1.0",
        "self.when < timestamp('2021-01-01T00:00:00Z') && self.__for__ == duration('60m')",
        "type(self.either) == string && self.either.endsWith('%')",
        "self.a__dash__b == 'x' && self.bytes == b'hi'",
        "self.set == ['b', 'a'] && self.set + ['b', 'c'] == ['a', 'b', 'c']",
        "self.map.exists(e, e.k == 'b' && e.v == 2) && self.map == self.map",
        "self.named.x == 1 && 'x' in self.named && !has(self.named.y)",
        "!has(self.n) || self.n > 0",
    ] {
        assert_eq!(over(&schema, &object, text).0, "true", "{text}");
    }
    assert_eq!(over(&schema, &object, "self.none").0, "ERROR: <input>:1:5: undefined field 'none'");
}

#[test]
fn costs_are_upstreams() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 10},
        "l": {"type": "array", "maxItems": 100, "items": {"type": "integer"}}}});
    let object = json!({"n": 1, "s": "abcdefghij", "l": [1, 2, 3]});
    // Value, most it may cost, what it cost.
    for (text, estimated, real) in [
        ("self.n == 1", 2, 3),
        ("self.l.all(x, x > 0)", 503, 18),
        ("self.l.size() > 1", 4, 4),
        ("self.s.startsWith('abc')", 3, 3),
        ("has(self.n)", 1, 1),
    ] {
        let (value, most, cost) = over(&schema, &object, text);
        assert_eq!((value.as_str(), most, cost), ("true", estimated, real), "{text}");
    }
}

#[test]
fn bombs_do_no_harm() {
    let deep = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for text in [
        deep("(", "1", ")", 20_000),
        deep("[", "1", "]", 20_000),
        deep("!", "true", "", 90_000),
        deep("-", "n", "", 90_000),
        deep("a ? b : ", "c", "", 10_000),
        vec!["1"; 40_000].join("+"),
        vec!["true"; 10_000].join(" && "),
        format!("a{}", ".b".repeat(40_000)),
        format!("[{}]", vec!["[]"; 20_000].join(",")),
        format!("[0]{}", ".map(x, {x: x})".repeat(100)),
        format!("optional.of(1){}", ".optMap(x, x)".repeat(100)),
        deep("[1].map(x, ", "x", ")", 200),
        deep("f(", "1", ")", 10_000),
        "1".repeat(200_000),
    ] {
        // An answer, of whatever kind, in bounded time.
        let _ = eval(&text);
    }
    for text in [
        "lists.range(2000).all(a, lists.range(2000).all(b, a + b >= 0))".to_string(),
        "lists.range(1000000000000).size() == 0".to_owned(),
        format!("'x'{}.size() > 0", ".replace('x', 'xxxxxxxxxxxxxxxxxxxxxxxx')".repeat(20)),
        "lists.range(1000).map(a, lists.range(1000).map(b, lists.range(1000))).size() > 0".to_string(),
    ] {
        let found = eval(&text);
        assert!(found.contains("actual cost limit exceeded"), "{text}: {found}");
    }
}
