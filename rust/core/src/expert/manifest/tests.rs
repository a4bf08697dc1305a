use super::*;

pub(crate) const EXAMPLE: &str = concat!(
    r#"{"alpha_rule":"fixed","base":{"initial_crc32c":null,"model":"t5-small","revision":null},"#,
    r#""dense":[{"crc32c":7,"dtype":"I64","name":"head","shape":[2]}],"#,
    r#""groups":[{"alpha":1.0,"density":0.2,"name":"lora_A"}],"kind":"lora","scope":"role","#,
    r#""tensors":[{"dtype":"F32","group":0,"initial":"zero","name":"a","shape":[3,11],"start":0},"#,
    r#"{"dtype":"BF16","group":0,"initial":"one","name":"b","shape":[],"start":64}],"version":1}"#
);

#[test]
fn canonical_json_is_read_back() {
    let manifest = Manifest::parse(EXAMPLE).unwrap();
    assert_eq!(manifest.to_json().unwrap(), EXAMPLE);
    assert_eq!(manifest.trits(), 96);
    assert_eq!(Dtype::BF16.name(), "BF16");
}

#[test]
fn metadata_makes_version_2() {
    let metadata = r#""kind":"lora","metadata":{"a":"{\"b\": 1}\n","z":""}"#;
    let second =
        EXAMPLE.replace(r#""kind":"lora""#, metadata).replace(r#""version":1"#, r#""version":2"#);
    let manifest = Manifest::parse(&second).unwrap();
    assert_eq!(manifest.metadata["a"], "{\"b\": 1}\n");
    assert_eq!(manifest.to_json().unwrap(), second);
    for (from, to) in [
        (r#""version":2"#, r#""version":1"#),
        (r#""version":2"#, r#""version":3"#),
        (r#""a":"#, r#""z":"#),
        (r#""z":"""#, r#""z":1"#),
        (r#","scope""#, r#","metadata":{"a":"b"},"scope""#),
    ] {
        let forged = second.replacen(from, to, 1);
        assert_ne!(forged, second);
        assert!(Manifest::parse(&forged).is_err(), "{to}");
    }
}

#[test]
fn a_configuration_makes_version_3() {
    let third = EXAMPLE
        .replace(r#""dense":["#, r#""config_crc32c":4294967295,"dense":["#)
        .replace(r#""version":1"#, r#""version":3"#);
    let both = third.replace(r#","scope""#, r#","metadata":{"a":"b"},"scope""#);
    for text in [&third, &both] {
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.config_crc32c, Some(u32::MAX));
        assert_eq!(&manifest.to_json().unwrap(), text);
    }
    for (from, to) in [
        (r#""version":3"#, r#""version":1"#),
        (r#""version":3"#, r#""version":2"#),
        (r#""version":3"#, r#""version":4"#),
        (r#""config_crc32c":4294967295,"#, ""),
        ("4294967295", "4294967296"),
        ("4294967295", "-1"),
        ("4294967295", "null"),
        ("4294967295", r#""7""#),
        (r#","scope""#, r#","config_crc32c":7,"scope""#),
    ] {
        for text in [&third, &both] {
            let forged = text.replacen(from, to, 1);
            assert_ne!(&forged, text);
            assert!(Manifest::parse(&forged).is_err(), "{to}");
        }
    }
}

#[test]
fn numbers_are_read_back_to_the_last_bit() {
    let far =
        EXAMPLE.replace(r#""alpha":1.0"#, r#""alpha":1222222222222222222222222222222222222220"#);
    let manifest = Manifest::parse(&far).unwrap();
    let again = Manifest::parse(&manifest.to_json().unwrap()).unwrap();
    assert_eq!(again.groups[0].alpha.to_bits(), manifest.groups[0].alpha.to_bits());
    assert_eq!(manifest.groups[0].alpha, 1222222222222222222222222222222222222220.0);
}

#[test]
fn manifests_whose_parts_do_not_fit_are_refused() {
    for (from, to) in [
        (r#""version":1"#, r#""version":2"#),
        (r#""start":64"#, r#""start":32"#),
        (r#""start":64"#, r#""start":96"#),
        (r#""name":"b""#, r#""name":"a""#),
        (r#""name":"head""#, r#""name":"b""#),
        (r#""group":0,"initial":"one""#, r#""group":1,"initial":"one""#),
        (r#""initial":"one""#, r#""initial":"given""#),
        (r#""dtype":"F32""#, r#""dtype":"F64""#),
        (r#""dtype":"F32""#, r#""dtype":"F31""#),
        ("[3,11]", "[4294967296,4294967296]"),
        ("[3,11]", "[1,1,1,1,1,1,1,1,33]"),
        ("[3,11]", "[-3,11]"),
        (r#""kind":"lora""#, r#""kind":"lora","kind":"lora""#),
        (r#""kind":"lora""#, r#""kind":"lora","more":1"#),
        (r#""kind":"lora""#, r#""kind":"lora","metadata":{}"#),
        (r#""kind":"lora""#, r#""kind":"lora","metadata":{"a":"b"}"#),
        (r#""revision":null"#, r#""x":null"#),
        (r#","revision":null"#, ""),
        (r#""alpha":1.0"#, r#""alpha":1e999"#),
    ] {
        let forged = EXAMPLE.replacen(from, to, 1);
        assert_ne!(forged, EXAMPLE);
        let error = Manifest::parse(&forged);
        assert!(matches!(error, Err(Error::Format(_))), "{to}: {error:?}");
    }
}
