//! Expressions as people write them, and as somebody hostile would.

use serde_json::{Value, json};

use super::{ExprError, Scope, eval_bool, references, render, render_value};

fn scope() -> Scope {
    Scope::new()
        .with("params", json!({ "test-fraction": 0.2, "rows": 3, "big": 9_007_199_254_740_993_i64, "name": "x", "on": true, "list": [1, [2, 3]], "none": null }))
        .with("metrics", json!({ "f1": 1, "rmse": 0.5 }))
        .with("champion", Value::Null)
        .with("stages", json!({ "sign-off": { "outputs": { "the-report": { "uri": "pvc://a/b" } }, "results": { "n": 2.0 } } }))
}

fn text(template: &str) -> String {
    render(template, &scope()).unwrap()
}

#[test]
fn a_gate_compares_integers_with_doubles_and_knows_null() {
    for (expression, expected) in [
        ("metrics.f1 > 0.9", true),
        ("metrics.f1 == 1", true),
        ("2 * metrics.rmse >= 1", true),
        ("params.rows + 1 == 4.0", true),
        ("metrics.f1 < 0.9 || metrics.rmse > 1", false),
        ("champion == null || metrics.f1 >= champion.metrics.f1 - 0.01", true),
        ("champion != null && champion.metrics.f1 > 0", false),
        ("params.on ? metrics.rmse < 1 : false", true),
        ("size(params.list) * 2 == 4", true),
        ("params.list[0] == 1", true),
        ("params['name'] == 'x'", true),
        ("has(metrics.f1) && !has(metrics.f2)", true),
        ("[1, 2, 3].exists(x, x == params.rows)", true),
        ("params.name in ['x', 'y']", true),
        ("params.name.startsWith('x')", true),
    ] {
        assert_eq!(eval_bool(expression, &scope()), Ok(expected), "{expression}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    for (expression, says) in [
        ("metrics.f2 > 1", "did you mean `f1`?"),
        ("champion.metrics.f1 > 1", "`champion` is null"),
        ("nothing > 1", "`nothing` is unknown"),
        ("metrics.f1", "a number, but true or false is needed here"),
        ("metrics.f1 > 'a'", "metrics.f1 > 'a'"),
    ] {
        let error = eval_bool(expression, &scope()).unwrap_err().to_string();
        assert!(error.contains(says), "{expression}: {error}");
    }
}

#[test]
fn text_is_rendered_with_values_as_people_write_them() {
    for (template, expected) in [
        ("--lr=$[[ params.test_fraction ]]", "--lr=0.2"),
        ("$[[ params.rows ]] of $[[params.name]]", "3 of x"),
        ("$[[ params.rows * 2 ]]", "6"),
        ("$[[ 1.0 ]]", "1"),
        ("$[[ params.list ]]", "[1,[2,3]]"),
        ("$[[ params.list[1][0] ]]", "2"),
        ("$[[ {'a': [1, 2]} ]]", r#"{"a":[1,2]}"#),
        ("$[[ params.none ]]", "null"),
        ("$[[ ']]' ]]", "]]"),
        ("$[[ stages.sign_off.outputs.the_report.uri ]]", "pvc://a/b"),
        ("$[[ stages.sign_off.results.n ]]", "2"),
        ("$[[ params.big ]]", "9007199254740993"),
        ("$(HOME) $$ [[ x ]]", "$(HOME) $$ [[ x ]]"),
    ] {
        assert_eq!(text(template), expected, "{template}");
    }
}

#[test]
fn quoted_text_is_one_word_of_a_shell_whatever_it_holds() {
    let long = "'".repeat(5000);
    let hostile = [
        "",
        " ",
        "a b",
        "; echo pwned",
        "$(id) `id` ${HOME} $HOME",
        "'; echo pwned; '",
        r"'\''",
        "\"quoted\"",
        r"\",
        r"\'",
        "a\nb\n",
        "*",
        "~",
        "#",
        "!",
        "-n",
        "\t",
        "ü🦀",
        "$[[ params.x ]]",
        "\u{1b}[0m",
        "&& exit 3",
        "| cat",
        "<(x)",
        "\r\n",
        "'''",
        &long,
    ];
    for text in hostile {
        let scope = Scope::new().with("params", json!({ "x": text }));
        let script = render("printf '%s|' $[[ quote(params.x) ]] end", &scope).unwrap();
        let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{text:?}: {ran:?}");
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("{text}|end|"), "{script}");
    }
}

#[test]
fn a_quoted_list_is_a_word_for_each_of_its_texts() {
    let words = json!(["a b", "it's", "$(id)", "", "\"x\" y\n"]);
    let scope = Scope::new().with("params", json!({ "files": words }));
    let script = render("printf '%s|' $[[ quote(params.files) ]] end", &scope).unwrap();
    let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), "a b|it's|$(id)||\"x\" y\n|end|", "{script}");
    assert_eq!(render("<$[[ quote([]) ]]>", &scope).unwrap(), "<>");
    assert_eq!(render("$[[ quote(params.files.filter(f, f == \"it's\")) ]]", &scope).unwrap(), r"'it'\''s'");
}

#[test]
fn what_cannot_be_quoted_is_refused() {
    let scope = Scope::new().with("params", json!({ "nul": "a\u{0}b", "q": "'".repeat(30_000), "n": 3 }));
    for (expression, says) in [
        ("quote(params.nul)", "NUL"),
        ("quote(quote(params.q))", "quote() stands inside quote(): write it once"),
        ("quote('a' + quote(params.q))", "quote() stands inside quote(): write it once"),
        ("quote([params.n])", "no text: write string(x)"),
        ("quote([params.nul])", "NUL"),
        ("quote(params.n)", "quote(params.n)"),
        ("quote()", "quote()"),
    ] {
        let error = render(&format!("$[[ {expression} ]]"), &scope).unwrap_err().to_string();
        assert!(error.contains(says), "{expression}: {error}");
    }
}

/// Nine hundred texts of 200 KB from an object of 3 KB, if it were made.
#[test]
fn quotes_do_not_multiply() {
    let zeros = vec![0; 900];
    let scope = Scope::new().with("params", json!({ "q": "'".repeat(200), "l": zeros, "long": "'".repeat(30_000) }));
    for expression in [
        "params.l.map(x, quote(quote(quote(quote(quote(quote(params.q)))))))",
        "params.l.all(x, quote(params.q) == 'a')",
        "[quote(params.q)].map(x, x + x)",
        "([1].map(x, x) + [quote(params.q)]).map(x, x)",
        "[{'a': [quote(params.q)]}].filter(x, true)",
        "params.l.map(x, quote(params.q).size())",
    ] {
        let error = render(&format!("$[[ {expression} ]]"), &scope).unwrap_err().to_string();
        assert!(error.contains("quote() stands inside a macro"), "{expression}: {error}");
    }
    assert_eq!(render("$[[ params.l.exists(x, x == 0.0) ? quote('a') : 'b' ]]", &scope).unwrap(), "'a'");
    for together in [
        "[quote(params.long), quote(params.long), quote(params.long)]",
        "{quote(params.long): [quote(params.long), quote(params.long)]}",
    ] {
        let error = render_value(&json!([format!("$[[ {together} ]]")]), &scope).unwrap_err().to_string();
        assert!(error.contains("longer than 262144 bytes"), "{together}: {error}");
    }
    let fits = render_value(&json!("$[[ [quote(params.long), 'b'] ]]"), &scope).unwrap();
    assert_eq!(fits[0].as_str().unwrap().len(), 120_002);
}

#[test]
fn what_was_rendered_is_never_rendered_again() {
    let scope = Scope::new().with("params", json!({ "evil": "$[[ params.secret ]]", "secret": "s" }));
    assert_eq!(render("<$[[ params.evil ]]>", &scope).unwrap(), "<$[[ params.secret ]]>");
    assert_eq!(render_value(&json!(["$[[ params.evil ]]"]), &scope).unwrap(), json!(["$[[ params.secret ]]"]));
}

#[test]
fn a_text_that_is_one_template_keeps_the_type() {
    let given = json!({ "a": "$[[ params.test_fraction ]]", "b": ["$[[ params.rows ]]", "n=$[[ params.rows ]]"], "c": "$[[ params.on ]]", "d": 7, "e": "$[[ params.rows * 2 ]]" });
    let expected = json!({ "a": 0.2, "b": [3, "n=3"], "c": true, "d": 7, "e": 6 });
    assert_eq!(render_value(&given, &scope()).unwrap(), expected);
}

#[test]
fn a_number_that_json_does_not_have_is_refused() {
    for expression in ["1 / 0", "0.0 / 0.0", "b'abc'", "timestamp('2024-01-01T00:00:00Z')"] {
        let rendered = render(&format!("$[[ {expression} ]]"), &scope());
        assert!(matches!(rendered, Err(ExprError::Evaluation { .. })), "{expression}: {rendered:?}");
    }
}

#[test]
fn references_are_the_member_paths_that_are_used() {
    let used =
        |expression: &str| references(expression).unwrap().into_iter().map(|path| path.join(".")).collect::<Vec<_>>();
    assert_eq!(
        used("stages.a.metrics.f1 > params.x && has(inputs.d)"),
        ["inputs.d", "params.x", "stages.a.metrics.f1"]
    );
    assert_eq!(
        used("stages['a'].results['n'] + params.list[params.i]"),
        ["params.i", "params.list", "stages.a.results.n"]
    );
    assert_eq!(used("params.list.all(x, x > metrics.f1)"), ["metrics.f1", "params.list"]);
    assert_eq!(used("1 + 2"), Vec::<String>::new());
}

/// On a stack as small as a runtime's worker may have.
fn on_a_small_stack(expressions: Vec<String>) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for expression in expressions {
            // An answer of any kind; a crash would end the whole test.
            let _ = eval_bool(&expression, &scope());
            let _ = references(&expression);
            let _ = render(&format!("$[[ {expression} ]]"), &scope());
        }
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn hostile_expressions_neither_crash_nor_hang() {
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let mut hostile = vec![
        nested("(", ")", 500),
        nested("[", "]", 500),
        nested("(", ")", 16),
        nested("[", "]", 16),
        nested("{'a':", "}", 16),
        nested("size(", ")", 16),
        nested("(1+", ")", 16),
        format!("{}true", "!".repeat(1000)),
        format!("{}true", "! ".repeat(500)),
        format!("{}1", "- ".repeat(500)),
        format!("1{}", "+1".repeat(500)),
        format!("1{}", "+1".repeat(63)),
        format!("1{}", "-1".repeat(120)),
        format!("true{}", "&&true".repeat(60)),
        format!("params{}", ".a".repeat(120)),
        format!("params{}", "[0]".repeat(120)),
        format!("params{}", "[0]".repeat(330)),
        format!("true{}", "?true:true".repeat(100)),
        format!("true{}", "?true".repeat(100)),
        "a".repeat(2000),
        "'".to_owned(),
        "\"\\".to_owned(),
        "'\\u{110000}'".to_owned(),
        "'\\777'".to_owned(),
        "'\\x'".to_owned(),
        "0x".to_owned(),
        "99999999999999999999".to_owned(),
        "-9223372036854775808 / -1".to_owned(),
        "-9223372036854775808 % -1".to_owned(),
        "1e999".to_owned(),
        "a.b.c.".to_owned(),
        "]]".to_owned(),
        "\u{0}\u{ffff}🦀".to_owned(),
        "'🦀'.size()".to_owned(),
        "'a'.matches('(((((a*)*)*)*)*)*b')".to_owned(),
        "'a'.matches('(')".to_owned(),
        "'a'.matches('a{1000}{1000}{1000}')".to_owned(),
        "timestamp('9999999-01-01T00:00:00Z')".to_owned(),
        "duration('9999999999999999h')".to_owned(),
        "timestamp('2024-01-01T00:00:00Z') + duration('99999999h')".to_owned(),
        "string(1, 2, 3)".to_owned(),
        "size()".to_owned(),
        "params.list[99]".to_owned(),
        "params.list[-1]".to_owned(),
        "int(1e300)".to_owned(),
        "uint(-1)".to_owned(),
        "[1].map()".to_owned(),
        "[1].all(1, 2)".to_owned(),
        "__result__".to_owned(),
        "@result".to_owned(),
        "google.protobuf.Duration{seconds: 1}".to_owned(),
    ];
    let digits = (0..150).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    hostile.push(format!("[{digits}].all(a, [{digits}].all(b, true))"));
    hostile.push(format!("[{digits}].all(a, [{digits}].all(b, [{digits}].all(c, true)))"));
    on_a_small_stack(hostile);
}

#[test]
fn what_would_take_too_long_is_refused() {
    for expression in ["[1].all(a, [1].all(b, true))", &"1 + ".repeat(300), &format!("{}1", "(".repeat(17))] {
        assert!(matches!(eval_bool(expression, &scope()), Err(ExprError::Syntax { .. })), "{expression}");
    }
}

#[test]
fn values_that_multiply_are_refused_before_they_are_made() {
    let list: Vec<i64> = (0..4000).collect();
    let scope = Scope::default().with("params", json!({ "l": list, "s": "x".repeat(400) }));
    let hostile = [
        "params.l.map(x, params.l)".to_owned(),
        "params.l.map(x, x).map(x, params.l)".to_owned(),
        "params.l.all(x, params.s.matches('a{40}'))".to_owned(),
        format!("[params.s]{}", ".map(x, x + x)".repeat(30)),
    ];
    for expression in hostile {
        let error = render(&format!("$[[ {expression} ]]"), &scope).unwrap_err().to_string();
        assert!(error.contains("more than") || error.contains("nested"), "{expression}: {error}");
    }
    assert!(eval_bool("params.l[0] == 0.0 && size(params.s) == 400.0", &scope).is_ok());
    let small = Scope::default().with("params", json!({ "l": (0..500).collect::<Vec<i64>>() }));
    assert_eq!(render("$[[ size(params.l.filter(x, x > 1.0)) ]]", &small).unwrap(), "498");
    assert!(
        eval_bool(
            "params.l.map(x, x * 2.0).exists(x, x > 10.0)",
            &Scope::default().with("params", json!({ "l": [1, 7] }))
        )
        .unwrap()
    );
}
