//! What the printer prints: the run that shows that a grant nobody saw must leave the idle clock alone.

// Sound: 0.1 is lent and was proved at 5.000000000s
#[test]
fn sound_held_not() {
    use crate::pool::tests::property::paste::*;
    let config = PoolConfig { max_size: 1, min_size: 0, ..PoolConfig::default() };
    let mut case = Case::new(&config, 0);
    case.tell(at(5000), Event::Start { lazy: true });
    case.tell(at(5000), acquire(0, at(35000)));
    case.tell(at(5000), connected(conn(0, 1)));
    case.tell(at(5000), release(conn(0, 1), Fate::Clean, 1));
    case.tell(at(5400), acquire(1, at(35400)));
    case.tell(at(5400), release(conn(0, 1), Fate::Unused, 0));
    case.tell(at(5700), acquire(2, at(35700)));
}
