//! The functions expressions may call: their overloads, as data.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::types::Type;

/// One way of calling a function.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Its name, by which costs are told.
    pub(crate) id: Arc<str>,
    /// Whether it is called on its first argument.
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// How many type parameters it has.
    pub(crate) params: u8,
}

/// A function's name, then its overloads: id, arguments (before a dot: what it is called on), result.
const TABLE: &[&str] = &[
    "_?_:_: conditional(bool, A, A) A",
    "_&&_: logical_and(bool, bool) bool",
    "_||_: logical_or(bool, bool) bool",
    "!_: logical_not(bool) bool",
    "@not_strictly_false: not_strictly_false(bool) bool",
    "_==_: equals(A, A) bool",
    "_!=_: not_equals(A, A) bool",
    "_+_: add_bytes(bytes, bytes) bytes; add_double(double, double) double; add_duration_duration(duration, duration) duration; \
     add_duration_timestamp(duration, timestamp) timestamp; add_timestamp_duration(timestamp, duration) timestamp; \
     add_int64(int, int) int; add_list(list(A), list(A)) list(A); add_string(string, string) string; add_uint64(uint, uint) uint",
    "_/_: divide_double(double, double) double; divide_int64(int, int) int; divide_uint64(uint, uint) uint",
    "_%_: modulo_int64(int, int) int; modulo_uint64(uint, uint) uint",
    "_*_: multiply_double(double, double) double; multiply_int64(int, int) int; multiply_uint64(uint, uint) uint",
    "-_: negate_double(double) double; negate_int64(int) int",
    "_-_: subtract_double(double, double) double; subtract_duration_duration(duration, duration) duration; \
     subtract_int64(int, int) int; subtract_timestamp_duration(timestamp, duration) timestamp; \
     subtract_timestamp_timestamp(timestamp, timestamp) duration; subtract_uint64(uint, uint) uint",
    "_[_]: index_list(list(A), int) A; index_map(map(A, B), A) B; optional_list_index_int(optional(list(A)), int) optional(A); \
     optional_map_index_value(optional(map(A, B)), A) optional(B)",
    "@in: in_list(A, list(A)) bool; in_map(A, map(A, B)) bool",
    "size: size_bytes(bytes) int; size_bytes(bytes.) int; size_list(list(A)) int; size_list(list(A).) int; \
     size_map(map(A, B)) int; size_map(map(A, B).) int; size_string(string) int; size_string(string.) int",
    "type: type(A) type(A)",
    "bool: bool_to_bool(bool) bool; string_to_bool(string) bool",
    "bytes: bytes_to_bytes(bytes) bytes; string_to_bytes(string) bytes",
    "double: double_to_double(double) double; int64_to_double(int) double; string_to_double(string) double; uint64_to_double(uint) double",
    "duration: duration_to_duration(duration) duration; int64_to_duration(int) duration; string_to_duration(string) duration",
    "dyn: to_dyn(A) dyn",
    "int: int64_to_int64(int) int; double_to_int64(double) int; duration_to_int64(duration) int; string_to_int64(string) int; \
     timestamp_to_int64(timestamp) int; uint64_to_int64(uint) int",
    "string: string_to_string(string) string; bool_to_string(bool) string; bytes_to_string(bytes) string; \
     double_to_string(double) string; duration_to_string(duration) string; int64_to_string(int) string; \
     timestamp_to_string(timestamp) string; uint64_to_string(uint) string; cidr_to_string(net.CIDR) string; ip_to_string(net.IP) string",
    "timestamp: timestamp_to_timestamp(timestamp) timestamp; int64_to_timestamp(int) timestamp; string_to_timestamp(string) timestamp",
    "uint: uint64_to_uint64(uint) uint; double_to_uint64(double) uint; int64_to_uint64(int) uint; string_to_uint64(string) uint",
    "contains: contains_string(string.string) bool",
    "endsWith: ends_with_string(string.string) bool",
    "startsWith: starts_with_string(string.string) bool",
    "matches: matches(string, string) bool; matches_string(string.string) bool",
    "getFullYear: timestamp_to_year(timestamp.) int; timestamp_to_year_with_tz(timestamp.string) int",
    "getMonth: timestamp_to_month(timestamp.) int; timestamp_to_month_with_tz(timestamp.string) int",
    "getDayOfYear: timestamp_to_day_of_year(timestamp.) int; timestamp_to_day_of_year_with_tz(timestamp.string) int",
    "getDayOfMonth: timestamp_to_day_of_month(timestamp.) int; timestamp_to_day_of_month_with_tz(timestamp.string) int",
    "getDate: timestamp_to_day_of_month_1_based(timestamp.) int; timestamp_to_day_of_month_1_based_with_tz(timestamp.string) int",
    "getDayOfWeek: timestamp_to_day_of_week(timestamp.) int; timestamp_to_day_of_week_with_tz(timestamp.string) int",
    "getHours: timestamp_to_hours(timestamp.) int; timestamp_to_hours_with_tz(timestamp.string) int; duration_to_hours(duration.) int",
    "getMinutes: timestamp_to_minutes(timestamp.) int; timestamp_to_minutes_with_tz(timestamp.string) int; \
     duration_to_minutes(duration.) int",
    "getSeconds: timestamp_to_seconds(timestamp.) int; timestamp_to_seconds_tz(timestamp.string) int; duration_to_seconds(duration.) int",
    "getMilliseconds: timestamp_to_milliseconds(timestamp.) int; timestamp_to_milliseconds_with_tz(timestamp.string) int; \
     duration_to_milliseconds(duration.) int",
    // Optional values.
    "optional.of: optional_of(A) optional(A)",
    "optional.ofNonZeroValue: optional_ofNonZeroValue(A) optional(A)",
    "optional.none: optional_none() optional(A)",
    "optional.unwrap: optional_unwrap(list(optional(A))) list(A)",
    "unwrapOpt: optional_unwrapOpt(list(optional(A)).) list(A)",
    "value: optional_value(optional(A).) A",
    "hasValue: optional_hasValue(optional(A).) bool",
    "or: optional_or_optional(optional(A).optional(A)) optional(A)",
    "orValue: optional_orValue_value(optional(A).A) A",
    "_[?_]: list_optindex_optional_int(list(A), int) optional(A); optional_list_optindex_optional_int(optional(list(A)), int) optional(A); \
     map_optindex_optional_value(map(A, B), A) optional(B); optional_map_optindex_optional_value(optional(map(A, B)), A) optional(B)",
    "last: list_last(list(A).) optional(A)",
    "first: list_first(list(A).) optional(A)",
    "cel.@mapInsert: @mapInsert_map_key_value(map(A, B), A, B) map(A, B); @mapInsert_map_map(map(A, B), map(A, B)) map(A, B)",
    // Texts.
    "charAt: string_char_at_int(string.int) string",
    "indexOf: string_index_of_string(string.string) int; string_index_of_string_int(string.string, int) int; \
     list_a_index_of_int(list(A).A) int",
    "lastIndexOf: string_last_index_of_string(string.string) int; string_last_index_of_string_int(string.string, int) int; \
     list_a_last_index_of_int(list(A).A) int",
    "lowerAscii: string_lower_ascii(string.) string",
    "upperAscii: string_upper_ascii(string.) string",
    "replace: string_replace_string_string(string.string, string) string; string_replace_string_string_int(string.string, string, int) string",
    "split: string_split_string(string.string) list(string); string_split_string_int(string.string, int) list(string)",
    "substring: string_substring_int(string.int) string; string_substring_int_int(string.int, int) string",
    "trim: string_trim(string.) string",
    "format: string_format(string.list(dyn)) string",
    "strings.quote: strings_quote(string) string",
    "join: list_join(list(string).) string; list_join_string(list(string).string) string",
    "find: string_find_string(string.string) string",
    "findAll: string_find_all_string(string.string) list(string); string_find_all_string_int(string.string, int) list(string)",
    // Lists.
    "isSorted: list_@_is_sorted_bool(list(@).) bool",
    "sum: list_#_sum_#(list(#).) #",
    "max: list_@_max_@(list(@).) @",
    "min: list_@_min_@(list(@).) @",
    "slice: list_slice(list(A).int, int) list(A)",
    "flatten: list_flatten(list(list(A)).) list(A); list_flatten_int(list(dyn).int) list(dyn)",
    "sort: list_@_sort(list(@).) list(@)",
    "@sortByAssociatedKeys: list_@_sortByAssociatedKeys(list(A).list(@)) list(A)",
    "lists.range: lists_range(int) list(int)",
    "reverse: list_reverse(list(A).) list(A)",
    "distinct: list_distinct(list(A).) list(A)",
    "sets.contains: list_sets_contains_list(list(A), list(A)) bool",
    "sets.equivalent: list_sets_equivalent_list(list(A), list(A)) bool",
    "sets.intersects: list_sets_intersects_list(list(A), list(A)) bool",
    // Addresses.
    "url: string_to_url(string) kubernetes.URL",
    "isURL: is_url_string(string) bool",
    "getScheme: url_get_scheme(kubernetes.URL.) string",
    "getHost: url_get_host(kubernetes.URL.) string",
    "getHostname: url_get_hostname(kubernetes.URL.) string",
    "getPort: url_get_port(kubernetes.URL.) string",
    "getEscapedPath: url_get_escaped_path(kubernetes.URL.) string",
    "getQuery: url_get_query(kubernetes.URL.) map(string, list(string))",
    "ip: string_to_ip(string) net.IP; cidr_ip(net.CIDR.) net.IP",
    "family: ip_family(net.IP.) int",
    "ip.isCanonical: ip_is_canonical(string) bool",
    "isUnspecified: ip_is_unspecified(net.IP.) bool",
    "isLoopback: ip_is_loopback(net.IP.) bool",
    "isLinkLocalMulticast: ip_is_link_local_multicast(net.IP.) bool",
    "isLinkLocalUnicast: ip_is_link_local_unicast(net.IP.) bool",
    "isGlobalUnicast: ip_is_global_unicast(net.IP.) bool",
    "isIP: is_ip(string) bool",
    "cidr: string_to_cidr(string) net.CIDR",
    "isCIDR: is_cidr(string) bool",
    "containsIP: cidr_contains_ip_string(net.CIDR.string) bool; cidr_contains_ip_ip(net.CIDR.net.IP) bool",
    "containsCIDR: cidr_contains_cidr_string(net.CIDR.string) bool; cidr_contains_cidr(net.CIDR.net.CIDR) bool",
    "prefixLength: cidr_prefix_length(net.CIDR.) int",
    "masked: cidr_masked(net.CIDR.) net.CIDR",
    // Quantities and versions.
    "quantity: string_to_quantity(string) kubernetes.Quantity",
    "isQuantity: is_quantity_string(string) bool",
    "sign: quantity_sign(kubernetes.Quantity.) int",
    "isGreaterThan: quantity_is_greater_than(kubernetes.Quantity.kubernetes.Quantity) bool; \
     semver_is_greater_than(kubernetes.Semver.kubernetes.Semver) bool",
    "isLessThan: quantity_is_less_than(kubernetes.Quantity.kubernetes.Quantity) bool; \
     semver_is_less_than(kubernetes.Semver.kubernetes.Semver) bool",
    "compareTo: quantity_compare_to(kubernetes.Quantity.kubernetes.Quantity) int; semver_compare_to(kubernetes.Semver.kubernetes.Semver) int",
    "asApproximateFloat: quantity_get_float(kubernetes.Quantity.) double",
    "asInteger: quantity_get_int(kubernetes.Quantity.) int",
    "isInteger: quantity_is_integer(kubernetes.Quantity.) bool",
    "add: quantity_add(kubernetes.Quantity.kubernetes.Quantity) kubernetes.Quantity; \
     quantity_add_int(kubernetes.Quantity.int) kubernetes.Quantity",
    "sub: quantity_sub(kubernetes.Quantity.kubernetes.Quantity) kubernetes.Quantity; \
     quantity_sub_int(kubernetes.Quantity.int) kubernetes.Quantity",
    "semver: string_to_semver(string) kubernetes.Semver; string_bool_to_semver(string, bool) kubernetes.Semver",
    "isSemver: is_semver_string(string) bool; is_semver_string_bool(string, bool) bool",
    "major: semver_major(kubernetes.Semver.) int",
    "minor: semver_minor(kubernetes.Semver.) int",
    "patch: semver_patch(kubernetes.Semver.) int",
    // Named formats.
    "validate: format-validate(kubernetes.NamedFormat.string) optional(list(string))",
    "format.named: format-named(string) optional(kubernetes.NamedFormat)",
    "format.dns1123Label: format.dns1123Label() kubernetes.NamedFormat",
    "format.dns1123Subdomain: format.dns1123Subdomain() kubernetes.NamedFormat",
    "format.dns1035Label: format.dns1035Label() kubernetes.NamedFormat",
    "format.qualifiedName: format.qualifiedName() kubernetes.NamedFormat",
    "format.dns1123LabelPrefix: format.dns1123LabelPrefix() kubernetes.NamedFormat",
    "format.dns1123SubdomainPrefix: format.dns1123SubdomainPrefix() kubernetes.NamedFormat",
    "format.dns1035LabelPrefix: format.dns1035LabelPrefix() kubernetes.NamedFormat",
    "format.labelValue: format.labelValue() kubernetes.NamedFormat",
    "format.uri: format.uri() kubernetes.NamedFormat",
    "format.uuid: format.uuid() kubernetes.NamedFormat",
    "format.byte: format.byte() kubernetes.NamedFormat",
    "format.date: format.date() kubernetes.NamedFormat",
    "format.datetime: format.datetime() kubernetes.NamedFormat",
    // Permission.
    "path: authorizer_path(kubernetes.authorization.Authorizer.string) kubernetes.authorization.PathCheck",
    "group: authorizer_group(kubernetes.authorization.Authorizer.string) kubernetes.authorization.GroupCheck",
    "serviceAccount: authorizer_serviceaccount(kubernetes.authorization.Authorizer.string, string) kubernetes.authorization.Authorizer",
    "resource: groupcheck_resource(kubernetes.authorization.GroupCheck.string) kubernetes.authorization.ResourceCheck",
    "subresource: resourcecheck_subresource(kubernetes.authorization.ResourceCheck.string) kubernetes.authorization.ResourceCheck",
    "namespace: resourcecheck_namespace(kubernetes.authorization.ResourceCheck.string) kubernetes.authorization.ResourceCheck",
    "name: resourcecheck_name(kubernetes.authorization.ResourceCheck.string) kubernetes.authorization.ResourceCheck",
    "fieldSelector: authorizer_fieldselector(kubernetes.authorization.ResourceCheck.string) kubernetes.authorization.ResourceCheck",
    "labelSelector: authorizer_labelselector(kubernetes.authorization.ResourceCheck.string) kubernetes.authorization.ResourceCheck",
    "check: pathcheck_check(kubernetes.authorization.PathCheck.string) kubernetes.authorization.Decision; \
     resourcecheck_check(kubernetes.authorization.ResourceCheck.string) kubernetes.authorization.Decision",
    "allowed: decision_allowed(kubernetes.authorization.Decision.) bool",
    "reason: decision_reason(kubernetes.authorization.Decision.) string",
    "errored: decision_errored(kubernetes.authorization.Decision.) bool",
    "error: decision_error(kubernetes.authorization.Decision.) string",
    "jsonpatch.escapeKey: string_jsonpatch_escapeKey_string(string) string",
];

/// Types that are told apart by size.
const COMPARABLE: [&str; 8] = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
const SUMMABLE: [&str; 4] = ["int", "uint", "double", "duration"];
const COMPARISONS: [(&str, &str); 4] = [("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")];

static FUNCTIONS: OnceLock<BTreeMap<String, Vec<Overload>>> = OnceLock::new();

/// A function's overloads; `None` when nobody declared it.
pub(crate) fn function(name: &str) -> Option<&'static [Overload]> {
    FUNCTIONS.get_or_init(read).get(name).map(Vec::as_slice)
}

/// All functions there are.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.get_or_init(read).keys().map(String::as_str)
}

fn read() -> BTreeMap<String, Vec<Overload>> {
    let mut functions: BTreeMap<String, Vec<Overload>> = BTreeMap::new();
    for line in TABLE {
        let (name, overloads) = line.split_once(": ").expect("the table has a name in each line");
        let all = functions.entry(name.into()).or_default();
        for overload in overloads.split("; ") {
            let of: &[&str] = if overload.contains('@') && !overload.contains("@mapInsert") { &COMPARABLE } else { &SUMMABLE };
            if overload.contains('#') || of.len() == COMPARABLE.len() {
                all.extend(of.iter().map(|ty| parse(&overload.replace(['@', '#'], ty))));
            } else {
                all.push(parse(overload));
            }
        }
    }
    for (name, word) in COMPARISONS {
        let one = |a: &str, b: &str, id: String| Overload {
            id: id.into(),
            member: false,
            args: vec![parse_type(a), parse_type(b)],
            result: Type::Bool,
            params: 0,
        };
        let mut all: Vec<Overload> = COMPARABLE.iter().map(|ty| one(ty, ty, format!("{word}_{ty}"))).collect();
        let numbers = ["int", "uint", "double"];
        for a in numbers {
            all.extend(numbers.iter().filter(|b| **b != a).map(|b| one(a, b, format!("{word}_{a}_{b}"))));
        }
        functions.insert(name.into(), all);
    }
    functions
}

/// An overload of the table.
fn parse(text: &str) -> Overload {
    let open = text.find('(').expect("the table has brackets");
    let mut depth = 0;
    let close = text[open..].char_indices().find_map(|(i, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (depth == 0).then_some(open + i)
    });
    let close = close.expect("the table's brackets close");
    let (inner, result) = (&text[open + 1..close], text[close + 1..].trim());
    let dot = receiver_end(inner);
    let mut args = Vec::new();
    if let Some(dot) = dot {
        args.push(parse_type(&inner[..dot]));
    }
    let rest = dot.map_or(inner, |d| &inner[d + 1..]);
    args.extend(split(rest).into_iter().filter(|a| !a.is_empty()).map(parse_type));
    let params =
        ['A', 'B'].iter().filter(|p| inner.contains(**p) && is_param(inner, **p) || result.contains(**p) && is_param(result, **p)).count();
    Overload { id: text[..open].into(), member: dot.is_some(), args, result: parse_type(result), params: params as u8 }
}

/// Whether a letter stands alone.
fn is_param(text: &str, letter: char) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(letter).any(|(i, _)| !word(text[..i].chars().next_back()) && !word(text[i + 1..].chars().next()))
}

/// Where the type ends that a method is called on: at the last dot before arguments that is no part of a name.
fn receiver_end(inner: &str) -> Option<usize> {
    if let Some(rest) = inner.strip_suffix('.') {
        return Some(rest.len());
    }
    let first = split(inner).first().copied().unwrap_or_default().len();
    let names = ["net.", "kubernetes.authorization.", "kubernetes."];
    let mut depth = 0;
    let mut i = 0;
    while i < first {
        if let Some(name) = names.iter().find(|n| inner[i..].starts_with(**n)) {
            i += name.len();
            continue;
        }
        match inner.as_bytes()[i] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'.' if depth == 0 => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn parse_type(text: &str) -> Type {
    if let Some((name, inner)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let parts: Vec<Type> = split(inner).into_iter().map(parse_type).collect();
        return match (name, &parts[..]) {
            ("list", [of]) => Type::list(of.clone()),
            ("optional", [of]) => Type::optional(of.clone()),
            ("type", [of]) => Type::Type(Some(Arc::new(of.clone()))),
            ("map", [key, value]) => Type::map(key.clone(), value.clone()),
            _ => unreachable!("the table has no type {text}"),
        };
    }
    match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "dyn" => Type::Dyn,
        name => Type::named(name),
    }
}

/// The type that a name in an expression stands for.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    let name = name.strip_prefix('.').unwrap_or(name);
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "string" => Type::String,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(None),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "net.IP"
        | "net.CIDR"
        | "kubernetes.URL"
        | "kubernetes.Quantity"
        | "kubernetes.Semver"
        | "kubernetes.NamedFormat"
        | "kubernetes.authorization.Authorizer"
        | "kubernetes.authorization.PathCheck"
        | "kubernetes.authorization.GroupCheck"
        | "kubernetes.authorization.ResourceCheck"
        | "kubernetes.authorization.Decision" => Type::named(name),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let shown = |name: &str| -> Vec<String> {
            let one = |o: &Overload| {
                let args: Vec<String> = o.args.iter().map(Type::to_string).collect();
                format!("{}{}({}) {} {}", o.id, if o.member { "." } else { "" }, args.join(", "), o.result, o.params)
            };
            function(name).unwrap().iter().map(one).collect()
        };
        assert_eq!(
            shown("containsIP"),
            ["cidr_contains_ip_string.(net.CIDR, string) bool 0", "cidr_contains_ip_ip.(net.CIDR, net.IP) bool 0"]
        );
        assert_eq!(shown("optional.none"), ["optional_none() optional_type(A) 1"]);
        assert_eq!(shown("@in"), ["in_list(A, list(A)) bool 1", "in_map(A, map(A, B)) bool 2"]);
        assert_eq!(shown("sum").len(), 4);
        assert_eq!(shown("sort")[6], "list_string_sort.(list(string)) list(string) 0");
        assert_eq!(shown("@sortByAssociatedKeys")[0], "list_int_sortByAssociatedKeys.(list(A), list(int)) list(A) 1");
        assert_eq!(shown("check")[0], "pathcheck_check.(kubernetes.authorization.PathCheck, string) kubernetes.authorization.Decision 0");
        assert_eq!(shown("_<_").len(), 14);
        for line in TABLE {
            assert!(function(line.split_once(": ").unwrap().0).is_some());
        }
    }
}
