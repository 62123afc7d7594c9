#include "core/driver.h"

/* Its address tells threads apart. */
static _Thread_local char self;

/* The poll of the leader and of the member on the calling thread. Once it said stop, the outer poll
 * is not asked again: it may have raised an exception. */
static bool poll_outer(void *argument) {
    pq_team *team = argument;
    if (!atomic_load_explicit(&team->stop, memory_order_relaxed) &&
        team->outer->poll(team->outer->poll_arg)) {
        atomic_store_explicit(&team->stop, true, memory_order_relaxed);
    }
    return pq_team_stopped(team);
}

static bool must_stop(const pq_exec *exec) {
    pq_team *team = exec->poll_arg;
    return pq_team_stopped(team) || (team->caller == &self && pq_poll_throttled(exec));
}

static pq_status member_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                            void *task) {
    return pq_run_serial(exec, count, grain, body, task, must_stop);
}

void pq_team_begin(pq_team *team, const pq_exec *outer) {
    team->leader = *outer;
    team->outer = outer;
    team->caller = &self;
    atomic_init(&team->stop, false);
    if (outer->poll != NULL) {
        team->leader.poll = poll_outer;
        team->leader.poll_arg = team;
    }
}

pq_exec pq_team_member(pq_team *team, char *message, size_t message_size) {
    pq_exec exec = pq_exec_serial(message, message_size);
    exec.parallel_for = member_for;
    exec.poll = team->outer->poll != NULL ? poll_outer : NULL;
    exec.poll_arg = team;
    return exec;
}

bool pq_team_stopped(const pq_team *team) {
    return atomic_load_explicit(&team->stop, memory_order_relaxed);
}
