//! Clients that take their time: to ask, to be silent, to read.

use super::*;

#[tokio::test(start_paused = true)]
async fn tcp_08_a_client_that_drips_is_cut_off() {
    let mut served = start();
    let began = Instant::now();
    let message = framed(&query(1, "now"));
    let (mut read, mut write) = tokio::io::split(&mut served.client);
    let drip = async {
        for octet in message {
            if write.write_all(&[octet]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let mut sent = Vec::new();
    tokio::select! {
        () = drip => panic!("the drip was let through"),
        _ = read.read_to_end(&mut sent) => {}
    }
    assert!(sent.is_empty());
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn tcp_08_the_idle_time_restarts_with_whole_questions_only() {
    let mut served = start();
    sleep(Duration::from_secs(8)).await;
    served.ask(1, "now").await;
    assert_eq!(served.reply().await, 1);
    let asked = Instant::now();
    sleep(Duration::from_secs(8)).await;
    served.send(&[0, 40, 1]).await;
    assert!(served.end().await.is_empty());
    assert_eq!(asked.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn tcp_08_a_client_that_drips_still_gets_what_it_is_owed() {
    let mut served = start();
    served.ask(1, "later").await;
    served.send(&[0]).await;
    sleep(Duration::from_secs(20)).await;
    // Cut off: this is not read any more.
    served.send(&framed(&query(2, "now"))[1..]).await;
    served.script.open();
    assert_eq!(served.reply().await, 1);
    assert!(served.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn tcp_09_an_idle_connection_is_closed_in_time() {
    for seconds in [2, 10, 30] {
        let limits = Limits { tcp_idle_timeout: Duration::from_secs(seconds), ..Limits::default() };
        let began = Instant::now();
        assert!(start_with(limits, 1 << 10).end().await.is_empty());
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn tcp_10_no_idle_close_while_a_question_is_being_resolved() {
    let mut served = start();
    served.ask(1, "later").await;
    sleep(Duration::from_mins(1)).await;
    served.script.open();
    assert_eq!(served.reply().await, 1);
    let answered = Instant::now();
    assert!(served.end().await.is_empty());
    assert_eq!(answered.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_read_and_then_closed() {
    let mut served = start_with(Limits::default(), 4 << 10);
    let began = Instant::now();
    let (counters, script) = (Arc::clone(&served.counters), Arc::clone(&served.script));
    let mut refused = 0;
    for id in 0..2000 {
        let question = framed(&query(id, "big"));
        match timeout(Duration::from_secs(1), served.client.write_all(&question)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => refused += 1,
        }
        if served.serving.is_finished() {
            break;
        }
    }
    assert!(refused > 0);
    // 64 KiB and a message unwritten, and what the pipe holds.
    assert!(script.count() <= 10, "{}", script.count());
    served.serving.await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(10) && began.elapsed() < Duration::from_secs(30));
    assert_eq!(counters.panics.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_an_octet_now_and_then_is_closed_too() {
    let mut served = start_with(Limits::default(), 1 << 10);
    let began = Instant::now();
    for id in 0..4 {
        served.ask(id, "big").await;
    }
    while !served.serving.is_finished() {
        let _ = served.client.read_u8().await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!((10..=12).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_reads_is_served_to_the_end() {
    let mut served = start_with(Limits::default(), 1 << 10);
    let (mut read, mut write) = tokio::io::split(&mut served.client);
    let asking = async {
        for id in 0..40 {
            write.write_all(&framed(&query(id, "big"))).await.unwrap();
        }
    };
    // 320 000 octets in 300 seconds and more: far over any one deadline.
    let reading = async {
        let mut octets = vec![0; 1024];
        let mut left = 40 * 8002;
        while left > 0 {
            let length = read.read(&mut octets).await.unwrap();
            assert!(length > 0, "closed with {left} octets to come");
            left -= length;
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(asking, reading);
}
