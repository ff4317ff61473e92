use super::*;
use expect_test::expect;
use flott_types::ErrorKind;
use proptest::prelude::*;

fn part(subtask: u32) -> FileHandle {
    FileHandle { path: format!("job/chk-7/0-{subtask}.g2"), len: 123, checksum: u64::MAX - 1 }
}

fn small() -> Manifest {
    Manifest {
        job_id: JobId(0xab),
        generation: Generation(2),
        attempt: Attempt(u128::MAX),
        checkpoint_id: CheckpointId(7),
        kind: CheckpointKind::Checkpoint,
        timestamp: -5,
        is_final: false,
        key_hash_version: 1,
        directory: "job/chk-7".to_owned(),
        savepoints: None,
        operators: vec![OperatorManifest {
            uid: OperatorUid("source".to_owned()),
            name: "Source".to_owned(),
            parallelism: 2,
            max_parallelism: 8,
            subtasks: vec![
                SubtaskManifest { part: Some(part(0)), bases: vec![], finished: false },
                SubtaskManifest { part: None, bases: vec![], finished: true },
            ],
            enumerator: Some(vec![0, 255, 16]),
        }],
    }
}

#[test]
fn a_person_can_read_it() {
    let bytes = small().encode();
    assert_eq!(Manifest::decode("m", &bytes).expect("whole"), small());
    let body = String::from_utf8_lossy(&bytes[20..bytes.len() - 8]);
    expect![[r#"
        {
          "job_id": "000000000000000000000000000000ab",
          "generation": 2,
          "attempt": "ffffffffffffffffffffffffffffffff",
          "checkpoint_id": 7,
          "kind": "Checkpoint",
          "timestamp": -5,
          "is_final": false,
          "key_hash_version": 1,
          "directory": "job/chk-7",
          "operators": [
            {
              "uid": "source",
              "name": "Source",
              "parallelism": 2,
              "max_parallelism": 8,
              "subtasks": [
                {
                  "part": {
                    "path": "job/chk-7/0-0.g2",
                    "len": 123,
                    "checksum": 18446744073709551614
                  },
                  "finished": false
                },
                {
                  "part": null,
                  "finished": true
                }
              ],
              "enumerator": "00ff10"
            }
          ]
        }"#]]
    .assert_eq(&body);
}

#[test]
fn every_truncation_is_an_error() {
    let whole = small().encode();
    for len in 0..whole.len() {
        let error = Manifest::decode("m", &whole[..len]).expect_err("truncated");
        assert_eq!(error.kind(), ErrorKind::Corruption, "at {len}");
        assert!(error.to_string().starts_with("file 'm' is damaged at byte "), "{error}");
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let whole = small().encode();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = Manifest::decode("m", &flipped).expect_err("flipped");
        assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
    }
}

/// With a right checksum: somebody made it so.
#[test]
fn hostile_manifests_are_refused() {
    let change = |change: fn(&mut Manifest)| {
        let mut manifest = small();
        change(&mut manifest);
        Manifest::decode("m", &manifest.encode()).expect_err("refused").to_string()
    };
    for (error, expected) in [
        (change(|m| m.directory = "../x".into()), "directory '../x' leads elsewhere"),
        (change(|m| m.directory = String::new()), "directory '' leads elsewhere"),
        (
            change(|m| m.operators[0].subtasks[0].part.as_mut().unwrap().path = "a/../../etc/passwd".into()),
            "path 'a/../../etc/passwd' leads elsewhere",
        ),
        (
            change(|m| m.operators[0].subtasks[0].part.as_mut().unwrap().path = "/etc/passwd".into()),
            "path '/etc/passwd' leads elsewhere",
        ),
        (
            change(|m| m.operators[0].parallelism = u32::MAX),
            "operator 'source' has 2 subtasks at parallelism 4294967295",
        ),
        (
            change(|m| m.operators[0].subtasks[1].finished = false),
            "a subtask of operator 'source' has no file and has not finished",
        ),
        (
            change(|m| m.operators.push(m.operators[0].clone())),
            "operators 'source' and 'source' are not in order",
        ),
    ] {
        assert!(
            error.starts_with("file 'm' is damaged at byte 20: ") && error.ends_with(expected),
            "{error}"
        );
    }
}

#[test]
fn an_error_in_the_text_has_its_position() {
    let bytes = frame(FORMAT, 0, |out| out.extend(b"{\n  \"job_id\": 5}"));
    let error = Manifest::decode("m", &bytes).expect_err("a number where text should be");
    assert_eq!(
        error.report(),
        "file 'm' is damaged at byte 35: the content is no manifest: invalid type: integer `5`, expected a string at line 2 column 13"
    );
}

proptest! {
    #[test]
    fn any_body_is_a_value_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::decode("m", &frame(FORMAT, 0, |out| out.extend(&body))).is_err());
        prop_assert!(Manifest::decode("m", &body).is_err());
    }

    /// Deep nesting, great numbers, half of a pair: whatever one character makes of it.
    #[test]
    fn a_text_with_some_other_characters_is_a_value_or_an_error(
        position in any::<prop::sample::Index>(),
        insert in "[\\[{\"0-9e,:\\\\u.-]{0,40}",
        removed in 0..20_usize,
    ) {
        let whole = small().encode();
        let body = unframe(FORMAT, "m", &whole).expect("whole");
        let position = position.index(body.len());
        let rest = (position + removed).min(body.len());
        let bytes = frame(FORMAT, 0, |out| {
            out.extend(&body[..position]);
            out.extend(insert.as_bytes());
            out.extend(&body[rest..]);
        });
        if let Err(error) = Manifest::decode("m", &bytes) {
            prop_assert_eq!(error.kind(), ErrorKind::Corruption);
        }
    }
}
