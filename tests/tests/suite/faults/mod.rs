//! Outages, silent peers, and hostile servers, on real servers and real sockets, and the
//! regression cases of other pools (PEERS, part A) that need those.
//!
//! # The 46 cases, and where each is proved
//!
//! `module::test` is in this folder, `client/` and `stories/` are its neighbours, `tokio/` is what is about tokio alone,
//! and `pool/` the machine's own tests in `core/src/pool/tests`. That each of them exists is checked by
//! `tests/table.rs`.
//!
//! | Case | What others do | Proved by |
//! |---|---|---|
//! | 1 | A silent peer wedges the pool | `silent::a_black_holed_pool_is_replaced`, `silent::a_black_holed_network_is_bounded_by_each_deadline`, `silent::a_query_into_a_black_hole_ends`, `pool/checking::peers_1_a_pool_of_silent_peers_recovers_as_soon_as_a_connect_works` |
//! | 2 | A connection whose validation timed out goes back | `silent::a_connection_that_failed_its_validation_never_comes_back`, `pool/checking::peers_2_a_validation_that_times_out_closes_the_connection` |
//! | 3 | Stale connections are checked one after another | `silent::stale_connections_share_one_deadline`, `silent::a_slow_validation_is_overtaken_by_a_connect`, `pool/checking::peers_3_one_failure_makes_the_siblings_suspect_and_they_are_checked_together` |
//! | 4 | A timeout without cause | `outage::an_acquire_during_an_outage_tells_the_truth_soon`, `pool/outage::peers_4_a_timeout_says_who_holds_the_connections_and_what_failed_last` |
//! | 5 | A dropped BEGIN stays open | `client/transactions::dropped_begins` |
//! | 6 | A timed-out acquire aborts its connect | `silent::a_late_connect_serves_the_next_caller`, `pool/lending::peers_6_a_timed_out_acquire_leaves_its_connect_alone` |
//! | 7 | All reach their lifetime together | `pool/recycling::peers_7_connections_opened_together_do_not_end_together` |
//! | 8 | A recovery herd | `outage::twenty_callers_make_no_storm`, `pool/outage::peers_8_under_load_an_outage_of_20_s_sees_at_most_25_attempts_one_at_a_time` |
//! | 9 | A failed connect wakes nobody | `limits::a_failed_connect_wakes_its_waiter_at_the_next_success`, `pool/outage::peers_9_a_failed_connect_is_followed_by_another_that_serves_the_waiter` |
//! | 10 | Barging | `pool/lending::peers_10_nobody_barges_past_a_queue`, `stories/acquiring::first_come_first_served` |
//! | 11 | Lost wake-ups under cancellation | `pool/lending::peers_11_a_grant_to_a_dropped_acquire_goes_to_the_next_waiter`, `pool/property/properties::no_stranding_nobody_waits_for_what_is_free`, `stories/acquiring::many_dropped_acquires` |
//! | 12 | Resize breaks the cap | `pool/recycling::peers_12_no_resize_breaks_the_cap`, `pool/recycling::peers_12_a_resize_closes_surplus_connects_and_idle_ones_first`, `stories/sizing::resized_while_lent` |
//! | 13 | Counters drift | `pool/property/properties::true_numbers_after_every_event`, `pool/reporting::r_4_1_the_numbers_of_a_short_story` |
//! | 14 | The reaper fights min_size or resets the idle clock | `pool/recycling::r_4_3_idle_connections_are_reaped_to_min_size_on_time`, `pool/checking::peers_14_touching_a_connection_resets_nothing`, `stories/recycling::by_idle_time` |
//! | 15 | Reaping is coarse | `pool/recycling::r_4_3_idle_connections_are_reaped_to_min_size_on_time`, `stories/recycling::by_idle_time` |
//! | 16 | A ping for every acquire | `pool/checking::peers_16_a_recently_used_connection_is_lent_without_a_round_trip`, `stories/validating::by_interval` |
//! | 17 | A demoted primary passes its check | `roles::a_demoted_primary_fails_one_write_and_serves_no_more`, `roles::a_validation_asks_for_the_role`, `roles::a_standby_serves_only_those_who_want_it`, `pool/checking::peers_17_a_reset_that_finds_the_role_changed_makes_the_siblings_suspect` |
//! | 18 | close() returns while connections live, or never | `lifecycle::a_shutdown_deadline_is_enforced`, `pool/ending::peers_18_the_end_waits_for_what_is_still_open` |
//! | 19 | Session state leaks to the next user | `pool/lending::peers_19_the_reset_policy_applies_to_clean_returns_but_not_to_unseen_grants`, `stories/resetting::nothing` |
//! | 20 | A stream dropped half-way poisons the next query | `client/streams::dropped_half_way` |
//! | 21 | Statement caches without bound, or behind PgBouncer | `client/statements::the_cache_is_bounded`, `client/statements::the_cache_is_off`, `stories/pgbouncer::everything_works_without_a_statement_cache` |
//! | 22 | Dropping a lease needs a runtime | `lifecycle::a_lease_may_end_on_a_thread_without_a_runtime`, `tokio/ending::a_runtime_that_goes_first_ends_its_pools`, `client/cancelling::dropped_outside_the_runtime` |
//! | 23 | Rotated credentials need a new pool | `stories/hooks::rotated_credentials`, `limits::a_bad_password_is_not_hammered` |
//! | 24 | No figures for waiting | `pool/reporting::r_4_1_the_numbers_of_a_short_story` |
//! | 25 | "Exhausted" is said of a database that is down | `outage::an_acquire_during_an_outage_tells_the_truth_soon`, `outage::twenty_callers_make_no_storm` |
//! | 26 | One failed request per dead connection | `tokio/unseen::a_restart_while_idle_costs_nobody_anything`, `outage::a_restart_under_load_costs_a_query_per_connection_at_most`, `pool/checking::peers_26_after_a_restart_nobody_but_the_first_sees_an_error` |
//! | 27 | A bad password is retried until the account locks | `limits::a_bad_password_is_not_hammered`, `limits::a_permanent_fault_ends_opening_at_once`, `pool/outage::peers_27_a_permanent_fault_fails_waiters_at_once_and_is_tried_at_the_slowest_rate` |
//! | 28 | A clock's step expires or revives everything | `pool/lending::peers_28_time_never_goes_back_and_a_leap_breaks_nothing` |
//! | 29 | A late cancel kills the next user's query | `client/cancelling::tokens_never_reach_the_next_lease`, `client/dropped::three_thousand_dropped_queries` |
//! | 30 | A dropped query runs on | `cleanup::a_dropped_query_stops_on_the_server`, `client/cancelling::dropped_queries_end_on_the_server` |
//! | 31 | One hung connect blocks all others | `silent::one_hung_connect_blocks_nobody`, `pool/outage::peers_31_a_hung_connect_costs_its_slot_until_its_deadline_and_nothing_more` |
//! | 32 | A slot is freed before the server has closed | `limits::max_connections_is_never_exceeded`, `pool/outage::a_full_server_is_tried_again_when_a_connection_of_ours_closes` |
//! | 33 | Reconnecting is given up | `outage::the_schedule_never_ends`, `pool/outage::peers_33_reconnecting_is_never_given_up` |
//! | 34 | Busy is called sick, an outage "connected" | `health::a_busy_pool_is_healthy`, `health::an_outage_is_never_called_connected`, `pool/reporting::peers_34_a_fully_lent_pool_that_serves_its_queue_is_healthy` |
//! | 35 | An idle pool neither notices nor comes back | `outage::an_idle_pool_notices_the_outage_and_recovers_without_traffic` |
//! | 36 | A shutdown deadline that is not enforced | `lifecycle::a_shutdown_deadline_is_enforced`, `pool/ending::peers_36_a_lease_that_is_never_returned_is_cut_off_with_a_notice` |
//! | 37 | Acquire is not bounded when backends are frozen | `silent::a_frozen_server_delays_nobody_beyond_his_timeout` |
//! | 38 | A role limit fails callers instead of queueing them | `limits::a_role_limit_makes_callers_wait_not_fail`, `pool/outage::peers_38_a_full_server_makes_callers_wait_and_growth_slow`, `pool/outage::peers_38_a_success_from_before_a_refusal_brings_no_second_burst` |
//! | 39 | A waiter that loses a race goes to the back | `pool/lending::peers_39_a_failed_socket_check_puts_the_waiter_back_at_the_head`, `stories/acquiring::first_come_first_served` |
//! | 40 | Age kept under a reused id | `pool/lending::peers_40_age_belongs_to_the_connection_not_to_its_slot` |
//! | 41 | Degraded for life; a leak improves health; looking moves it | `health::an_outage_is_never_called_connected`, `pool/reporting::peers_41_slow_acquires_degrade_for_a_while_and_not_for_life`, `pool/reporting::peers_41_a_leak_never_makes_health_better`, `pool/reporting::reading_health_changes_nothing_and_moves_no_timestamp` |
//! | 42 | Every attempt is "attempt 1" | `outage::the_schedule_never_ends`, `outage::an_idle_pool_follows_the_schedule` |
//! | 43 | Tasks multiply with every recovery | `lifecycle::tasks_do_not_multiply` |
//! | 44 | A cancelled shutdown stays half-way | `lifecycle::a_cancelled_shutdown_goes_on`, `pool/ending::peers_44_a_second_shutdown_only_brings_the_deadline_forward` |
//! | 45 | A backend that dies during clean-up hangs release | `cleanup::backends_that_die_during_the_clean_up_hang_nobody`, `cleanup::a_clean_up_in_a_black_hole_is_bounded`, `pool/lending::peers_45_a_reset_that_never_ends_costs_its_slot_until_its_deadline` |
//! | 46 | Passwords in error texts and Debug | `secrets::passwords_are_nowhere`, `secrets::refused_configurations_keep_the_password` |

mod load;

mod cleanup;
mod health;
mod hostile;
mod journal;
mod lifecycle;
mod limits;
mod outage;
mod roles;
mod secrets;
mod shutdown;
mod silent;
