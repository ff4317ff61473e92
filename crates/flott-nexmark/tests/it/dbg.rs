use flott_api::OutputTag;
use flott_api::sinks::collect_sink;
use flott_api::windowing::*;
use flott_connector_nexmark::*;
use flott_connector_nexmark::queries::*;
use flott_api::*;
use flott_datastream::*;
use std::time::Duration;
#[derive(Clone)] struct Count;
impl AggregateFunction<u64> for Count { type Accumulator=u64; type Output=u64; fn create_accumulator(&self)->u64{0} fn add(&self,a:&mut u64,_:&u64){*a+=1} fn get_result(&self,a:&u64)->u64{*a} fn merge(&self,a:&mut u64,b:&u64){*a+=*b} }
#[derive(Clone)] struct P;
impl ProcessFunction<HotItem,(i64,i64,i64)> for P { fn process_element(&mut self, r: HotItem, ctx:&mut ProcessContext<'_>, out:&mut Collector<'_,(i64,i64,i64)>)->UserResult { if ctx.timestamp <= ctx.watermark.0 { out.collect((r.window.end, ctx.timestamp, ctx.watermark.0)); } Ok(()) } }
#[test] fn dbg() {
  let config = NexmarkConfig { out_of_order_group_size: 1000, events_per_second: 1_000, ..NexmarkConfig::bounded(100_000) };
  let env = StreamExecutionEnvironment::with_configuration(flott_types::Configuration::default()).unwrap();
  let strategy = WatermarkStrategy::for_bounded_out_of_orderness(config.max_out_of_orderness());
  let (sink, results) = collect_sink();
  let s = env.from_source(NexmarkSource::bids(config.clone()).unwrap(), strategy, "bids").map(|b| b.auction).key_by(|a| *a)
   .window(SlidingEventTimeWindows::of(Duration::from_secs(10), Duration::from_secs(2)))
   .aggregate_with(Count, |a, ctx, bids| HotItem { window: *ctx.window, auction: *a, bids });
  s.process(P).sink_to(sink);
  env.execute("x").unwrap();
  let r = results.take();
  println!("{} {:?}", r.len(), &r[..r.len().min(10)]);
  let _ = OutputTag::<u64>::new("x");
}
