//! The pure parts that are on the path of requests and checks.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion};
use ngx_checkups::logic::balance::round_robin::{pick, Turn};
use ngx_checkups::logic::balance::slow_start::WHOLE;
use ngx_checkups::logic::passive::Failures;
use ngx_checkups::logic::probe::http::HttpProbe;
use ngx_checkups::logic::probe::{Step, Verdict};
use ngx_checkups::logic::settings;

fn round_robin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round robin pick");
    for peers in [3, 100, 1000] {
        let mut turns: Vec<_> = (0..peers).map(|peer| Turn::new(peer % 10 + 1)).collect();
        group.bench_function(BenchmarkId::from_parameter(peers), |bencher| {
            bencher.iter(|| pick(black_box(&mut turns), |_| Some(WHOLE)));
        });
    }
    group.finish();
}

fn passive(criterion: &mut Criterion) {
    let mut failures = Failures::default();
    let mut now = 0;
    criterion.bench_function("count a failure", |bencher| {
        bencher.iter(|| {
            now += 7;
            failures.add(black_box(now), 5, 10_000)
        });
    });
}

fn http_probe(criterion: &mut Criterion) {
    let settings = settings::HttpProbe {
        method: "GET".to_owned(),
        uri: "/".to_owned(),
        host: "api".to_owned(),
        headers: Vec::new(),
        body: None,
        keepalive_time: None,
        matching: None,
    };
    let response = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                     Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    criterion.bench_function("http probe", |bencher| {
        bencher.iter(|| {
            let mut probe = HttpProbe::new(black_box(&settings));
            assert_eq!(probe.feed(black_box(response)), Step::Done(Verdict::Pass));
        });
    });
}

criterion_group!(benches, round_robin, passive, http_probe);
criterion_main!(benches);
