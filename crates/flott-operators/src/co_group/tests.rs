use super::*;
use flott_api::SideOutputs;
use flott_api::windowing::TimeWindow;
use flott_types::{RecordBatch, Watermark};

type Record = Either<u8, &'static str>;

fn call<O>(
    mut function: impl ProcessWindowFunction<Record, O, char, TimeWindow>,
    records: &[Record],
) -> Vec<O> {
    let window = TimeWindow { start: 0, end: 10 };
    let ctx = WindowContext { window: &window, watermark: Watermark(9), processing_time: 0 };
    let (mut batch, mut sides) = (RecordBatch::default(), SideOutputs::default());
    let mut out = Collector::new(&mut batch, &mut sides, 9);
    function.process(&'k', &ctx, records.to_vec(), &mut out).unwrap();
    batch.into_iter().map(|(record, _)| record).collect()
}

const MIXED: [Record; 5] =
    [Either::Left(1), Either::Right("a"), Either::Right("b"), Either::Left(2), Either::Right("c")];

#[test]
fn a_co_group_gets_both_sides_in_their_order() {
    let function = CoGroupWindowFunction::new(
        |key: &char,
         ctx: &WindowContext<'_, TimeWindow>,
         left: Vec<u8>,
         right: Vec<&'static str>,
         out: &mut Collector<'_, String>| {
            out.collect(format!("{key} {} {left:?} {right:?}", ctx.window.end));
            Ok(())
        },
    );
    assert_eq!(call(function, &MIXED), [r#"k 10 [1, 2] ["a", "b", "c"]"#]);
    assert_eq!(call(function, &MIXED[1..3]), [r#"k 10 [] ["a", "b"]"#]);
}

#[test]
fn a_join_gets_every_pair() {
    let function =
        JoinWindowFunction::new(|left: &u8, right: &&'static str, out: &mut Collector<'_, String>| {
            out.collect(format!("{left}{right}"));
            Ok(())
        });
    assert_eq!(call(function, &MIXED), ["1a", "1b", "1c", "2a", "2b", "2c"]);
    assert!(call(function, &MIXED[1..3]).is_empty());
}

#[test]
fn a_key_selector_reads_either_side() {
    let key = |record: &Record| record.either(|left| usize::from(*left), |right| right.len());
    assert_eq!([key(&Either::Left(7)), key(&Either::Right("abc"))], [7, 3]);
}
