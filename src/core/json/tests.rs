//! Texts in JSON.

use super::*;

#[test]
fn commas_stand_between_values_and_nowhere_else() {
    let text = JsonWriter::of(|json| {
        json.field("a", 1_u64);
        json.object("b", |_| {});
        json.values("c", [1.5, f64::NAN]);
        json.objects("d", [true, false], |json, on| {
            json.field("on", on);
            json.field("none", None::<u32>);
        });
        json.field("e", Raw("{\"x\":[]}"));
    });
    let right = r#"{"a":1,"b":{},"c":[1.5,null],"d":[{"on":true,"none":null},"#;
    assert_eq!(
        text,
        format!(r#"{right}{{"on":false,"none":null}}],"e":{{"x":[]}}}}"#)
    );
}

#[test]
fn a_text_cannot_leave_its_quotes() {
    let text = JsonWriter::of(|json| json.field("a", "\"\\\n\t\0\u{7f}\u{2028}</script>é,"));
    let right = "{'a':'\\'\\\\\\n\\t\\u0000\\u007f\\u2028\\u003c/script>é,'}".replace('\'', "\"");
    assert_eq!(text, right);
    // A value that ends as an object begins is followed by a comma all the same.
    let text = JsonWriter::of(|json| {
        json.field("a", "{");
        json.field("b", "[:");
        json.field("c", 0_u64);
    });
    assert_eq!(text, r#"{"a":"{","b":"[:","c":0}"#);
}

#[test]
fn durations_are_seconds() {
    for (micros, right) in [
        (0, "0"),
        (1_500_000, "1.5"),
        (40, "0.00004"),
        (2_000_000, "2"),
    ] {
        let mut text = String::new();
        Duration::from_micros(micros).write(&mut text);
        assert_eq!(text, right);
    }
}
