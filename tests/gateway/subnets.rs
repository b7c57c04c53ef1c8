//! Clients that tell their subnet, over all transports: forwarded where the operator wants it, and nobody gets another's answer.

use hushgate::peer::Transport;

use crate::harness::upstream::Asked;
use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

/// The client-subnet option of a question, if there is one.
fn told(asked: &Asked) -> Option<Vec<u8>> {
    message::option(&asked.message, 8)
}

/// An address that tells the third octet of the subnet, for 24 bits of it, or as many as the name begins with.
fn tailored(asked: &Asked) -> Act {
    let Some(mut data) = told(asked) else { return Act::Answer(Answer::new().a(300, [192, 0, 2, 0])) };
    data[3] = asked.name().split('.').next().and_then(|label| label.parse().ok()).unwrap_or(24);
    let last = data.get(6).copied().unwrap_or(255);
    Act::Answer(Answer::new().a(300, [192, 0, 2, last]).opt(&[(8, &data)]))
}

/// The last octet of the only address in an answer.
fn last(answered: &[u8]) -> u8 {
    assert_eq!(message::counts(answered)[1], 1, "{answered:02x?}");
    answered[message::question_end(answered) + 15]
}

async fn ask(rig: &Rig, transport: Transport, name: &str, third: u8) -> (u8, Option<Vec<u8>>) {
    let ask = Ask::a(name).id(0).option(8, &[0, 1, 32, 0, 198, 51, third, 9]);
    let answered = rig.ask(transport, &ask.bytes()).await.message;
    (last(&answered), message::option(&answered, 8))
}

#[tokio::test]
async fn ecs_05_ecs_08_ecs_11_each_network_gets_its_own_answer_and_scopes_are_shared_over_each_transport() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(tailored);
    over_all!(Transport::ALL, |transport| {
        let near = format!("24.{}.example.org", transport.name());
        let wide = format!("16.{}.example.org", transport.name());
        let all = format!("0.{}.example.org", transport.name());
        for (name, third, expected, scope, questions) in [
            (&near, 1, 1, 24, 1),
            (&near, 2, 2, 24, 1),
            (&near, 1, 1, 24, 0),
            (&wide, 1, 1, 16, 1),
            (&wide, 2, 1, 16, 0),
            (&all, 1, 1, 0, 1),
            (&all, 2, 1, 0, 0),
        ] {
            let before = rig.upstream.count();
            let (data, option) = ask(&rig, transport, name, third).await;
            assert_eq!((data, option), (expected, Some(vec![0, 1, 32, scope, 198, 51, third, 9])), "{name}");
            assert_eq!(rig.upstream.count() - before, questions, "{name} from {third}");
        }
        // Who tells nothing gets none of it, and has nothing told.
        let plain = rig.ask(transport, &Ask::a(&near).id(0).edns().bytes()).await.message;
        assert_eq!((last(&plain), message::option(&plain, 8)), (0, None));
        let hidden = rig.ask(transport, &Ask::a(&near).id(0).option(8, &[0, 1, 0, 0]).bytes()).await.message;
        assert_eq!(message::option(&hidden, 8), Some(vec![0, 1, 0, 0]));
    });
    for asked in rig.upstream.log().iter().filter(|asked| !asked.name().is_empty()) {
        let told = told(asked);
        assert!(told.is_none_or(|data| data == [0, 1, 0, 0] || data.len() == 7 && data[..4] == [0, 1, 24, 0]));
    }
}

#[tokio::test]
async fn ecs_01_without_being_told_to_nothing_is_forwarded_and_all_share_one_answer() {
    let rig = Rig::start().await;
    rig.upstream.script(tailored);
    over_all!(Transport::ALL, |transport| {
        let name = format!("24.{}.example.org", transport.name());
        let before = rig.upstream.count();
        for third in [1, 2] {
            assert_eq!(ask(&rig, transport, &name, third).await, (0, None));
        }
        assert_eq!(rig.upstream.count() - before, 1);
    });
}

#[tokio::test]
async fn ecs_06_a_forged_answer_for_another_subnet_is_passed_over() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(|asked| {
        let mine = told(asked).unwrap_or_default();
        let answer = |last, data: &[u8]| Answer::new().a(300, [192, 0, 2, last]).opt(&[(8, data)]).to(&asked.message);
        Act::Several(vec![answer(66, &[0, 1, 24, 24, 203, 0, 113]), answer(1, &mine)])
    });
    assert_eq!(ask(&rig, Transport::Udp, "a.example.org", 1).await.0, 1);
}
