// The threads that OpenMP keeps for a thread that computed in parallel.
#pragma once

namespace alambic {

// Ends the calling thread's team; the next parallel operator starts another, which takes some 50 µs. While
// more threads are kept than the machine has processors, GNU OpenMP puts every team to sleep after each
// operator instead of letting it wait for the next: with a second team for work off the JavaScript thread,
// a step takes 1.4 times as long.
void release_thread_team();

// Ends the team at the end of a block.
struct TeamRelease {
  TeamRelease() = default;
  ~TeamRelease() { release_thread_team(); }
  TeamRelease(const TeamRelease&) = delete;
  TeamRelease& operator=(const TeamRelease&) = delete;
};

}  // namespace alambic
