//! Tensor values as callers write them, right and wrong.

use proptest::prelude::*;

use super::*;

fn fp32(text: &str, shape: &[i64]) -> Result<Vec<f32>, ValueError> {
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
    match read(text, Datatype::Fp32, shape, count)? {
        Data::Fp32(values) => Ok(values),
        other => panic!("FP32 became {other:?}"),
    }
}

fn one(text: &str, datatype: Datatype) -> Result<Data, ValueError> {
    read(&format!("[{text}]"), datatype, &[1], 1)
}

#[test]
fn values_may_be_flat_or_nested_like_the_shape() {
    let expected = Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(fp32("[1,2,3,4,5,6]", &[2, 3]), expected);
    assert_eq!(fp32(" [ [1,2,3] ,\n[4, 5,6]\t]".trim(), &[2, 3]), expected);
    assert_eq!(fp32("[[[1],[2],[3]],[[4],[5],[6]]]", &[2, 3, 1]), expected);
    assert_eq!(fp32("[7]", &[]), Ok(vec![7.0]));
}

#[test]
fn nesting_that_is_not_the_shape_is_refused() {
    for text in
        ["[[1,2],[3,4],[5,6]]", "[[1,2,3],[4,5],[6]]", "[[1,2,3],4,5,6]", "[1,[2,3,4,5,6]]", "[[[1,2,3],[4,5,6]]]"]
    {
        assert!(matches!(fp32(text, &[2, 3]), Err(ValueError::Nesting { .. })), "{text}");
    }
    assert!(matches!(fp32("[[1,2],[3]]", &[3]), Err(ValueError::Nesting { .. })));
}

#[test]
fn too_few_and_too_many_values_are_refused() {
    assert_eq!(fp32("[1]", &[2]), Err(ValueError::Count { found: 1, expected: 2, shape: "[2]".into() }));
    assert_eq!(fp32("[]", &[2]), Err(ValueError::Count { found: 0, expected: 2, shape: "[2]".into() }));
    assert_eq!(fp32("[1,2,3]", &[2]), Err(ValueError::TooMany { expected: 2, shape: "[2]".into() }));
    assert_eq!(fp32("7", &[1]), Err(ValueError::NotArray));
    assert_eq!(fp32("null", &[1]), Err(ValueError::NotArray));
}

#[test]
fn null_is_a_missing_number_or_an_empty_text_and_nothing_else() {
    assert!(fp32("[null]", &[1]).unwrap()[0].is_nan());
    assert!(matches!(one("null", Datatype::Fp64), Ok(Data::Fp64(values)) if values[0].is_nan()));
    assert!(matches!(one("null", Datatype::Fp16), Ok(Data::Fp16(values)) if values[0].is_nan()));
    assert_eq!(one("null", Datatype::Bytes), Ok(Data::Bytes(vec![String::new()])));
    for datatype in [Datatype::Bool, Datatype::Int64, Datatype::Uint8] {
        assert!(one("null", datatype).is_err(), "{datatype}");
    }
}

#[test]
fn each_type_takes_its_range_and_not_more() {
    let limits = [
        (Datatype::Uint8, "255", "256"),
        (Datatype::Uint16, "65535", "65536"),
        (Datatype::Uint32, "4294967295", "4294967296"),
        (Datatype::Uint64, "18446744073709551615", "18446744073709551616"),
        (Datatype::Int8, "-128", "-129"),
        (Datatype::Int16, "-32768", "-32769"),
        (Datatype::Int32, "-2147483648", "-2147483649"),
        (Datatype::Int64, "-9223372036854775808", "-9223372036854775809"),
        (Datatype::Fp16, "65504", "65536"),
        (Datatype::Fp32, "3.4028235e38", "3.5e38"),
        (Datatype::Fp64, "1.7976931348623157e308", "1e309"),
    ];
    for (datatype, inside, outside) in limits {
        assert!(one(inside, datatype).is_ok(), "{datatype} {inside}");
        assert!(one(outside, datatype).is_err(), "{datatype} {outside}");
    }
}

#[test]
fn values_of_another_kind_are_refused_with_their_place_and_what_is_needed() {
    for (datatype, text) in [
        (Datatype::Int32, "1.5"),
        (Datatype::Int32, "\"1\""),
        (Datatype::Uint8, "-1"),
        (Datatype::Fp32, "\"1\""),
        (Datatype::Fp32, "true"),
        (Datatype::Bool, "1"),
        (Datatype::Bytes, "1"),
        (Datatype::Bytes, "\"a\\u0000b\""),
        (Datatype::Fp32, "{\"a\":1}"),
    ] {
        assert!(one(text, datatype).is_err(), "{datatype} {text}");
    }
    let error = read("[1,2,\"x\"]", Datatype::Fp32, &[3], 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "value 2 is \"x\", but FP32 needs a number in its range, or null where a value is missing"
    );
}

#[test]
fn text_is_read_with_its_escapes() {
    let text = r#"["a]b", "\"q\"", "ä\u00e4\ud83d\ude00", "back\\", ",["]"#;
    let expected = ["a]b", "\"q\"", "ää😀", "back\\", ",["].map(str::to_owned).to_vec();
    assert_eq!(read(text, Datatype::Bytes, &[5], 5), Ok(Data::Bytes(expected)));
}

#[test]
fn a_shape_that_promises_more_than_the_text_has_allocates_no_more_than_the_text() {
    let error = read("[1]", Datatype::Fp64, &[1 << 40], 1 << 40).unwrap_err();
    assert!(matches!(error, ValueError::Count { found: 1, .. }));
}

proptest! {
    #[test]
    fn floats_are_what_the_standard_library_reads(values in proptest::collection::vec(any::<f32>(), 1..20)) {
        let values: Vec<f32> = values.into_iter().filter(|value| value.is_finite()).collect();
        let text = serde_json::to_string(&values).unwrap();
        let shape = [i64::try_from(values.len()).unwrap()];
        prop_assert_eq!(fp32(&text, &shape), Ok(values));
    }

    #[test]
    fn texts_are_what_serde_reads(values in proptest::collection::vec(any::<String>(), 1..20)) {
        let values: Vec<String> = values.into_iter().map(|value| value.replace('\0', "")).collect();
        let text = serde_json::to_string(&values).unwrap();
        let shape = [i64::try_from(values.len()).unwrap()];
        prop_assert_eq!(read(&text, Datatype::Bytes, &shape, values.len()), Ok(Data::Bytes(values)));
    }

    #[test]
    fn no_json_makes_it_panic(
        text in "[\\[\\]{}\",:0-9a-z\\\\ .-]{0,40}",
        shape in proptest::collection::vec(0_i64..4, 0..4),
        count in 0_usize..10,
    ) {
        for datatype in Datatype::ALL {
            let _ = read(&text, datatype, &shape, count);
        }
    }
}
