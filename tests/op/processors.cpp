// Seats of one team and callers that wait, for test_processors.py.
#include "tf/processors.h"

#pragma GCC visibility push(default)
extern "C" {

splitop::Processors* make_team() { return new splitop::Processors; }
void end_team(splitop::Processors* team) { delete team; }

splitop::Processors::Seat* take_seat(splitop::Processors* team, bool moves) {
  return new splitop::Processors::Seat(*team, moves);
}
int seat_of(const splitop::Processors::Seat* seat) { return seat->processor(); }
void leave_seat(splitop::Processors::Seat* seat) { delete seat; }

splitop::Callers::Scope* begin_call() { return new splitop::Callers::Scope; }
void end_call(splitop::Callers::Scope* scope) { delete scope; }

void note_move() { splitop::Callers::NoteMove(); }
void await_helper(bool has_come) {
  const std::atomic<bool> come{has_come};
  splitop::Callers::Await(come);
}

}  // extern "C"
