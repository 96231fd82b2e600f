// Seats of one team, for test_processors.py.
#include "tf/processors.h"

extern "C" {

splitop::Processors* make_team() { return new splitop::Processors; }
void end_team(splitop::Processors* team) { delete team; }

splitop::Processors::Seat* take_seat(splitop::Processors* team) {
  return new splitop::Processors::Seat(*team);
}
void leave_seat(splitop::Processors::Seat* seat) { delete seat; }

int processor() { return sched_getcpu(); }

}  // extern "C"
