// Huge pages under large tables: rows at random are each in a page of their own, whose address is
// then looked up in a table of pages that is 512 times as short.
#ifndef SPLITOP_TF_HUGE_PAGES_H_
#define SPLITOP_TF_HUGE_PAGES_H_

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

namespace splitop {

// The buffers of one op. The first execution has the system move them, which takes it 2.5 ms a MB,
// for as long as two seconds; the rest, and what can't be moved at once, the system's own thread
// moves by and by.
class HugePages {
 public:
  static constexpr size_t kFewestBytes = size_t{64} << 20;

  explicit HugePages(size_t buffers) : page_bytes_(PageBytes()), buffers_(buffers) {}

  // Moves a buffer unless that is done. The caller sees to it that nobody frees it meanwhile.
  // Another one of its size in the same place counts as moved: that costs time only. buffer: its
  // number in the op.
  void Move(size_t buffer, void* data, size_t bytes) {
    if (bytes < kFewestBytes || page_bytes_ == 0) return;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;  // the op runs twice at once; the next time will do
    Buffer& seen = buffers_[buffer];
    if (seen.data == data && seen.bytes == bytes) return;
    seen = {data, bytes};
    const uintptr_t page = page_bytes_, first = reinterpret_cast<uintptr_t>(data);
    const uintptr_t end = (first + bytes) / page * page;
    uintptr_t next = (first + page - 1) / page * page;
    if (next >= end || madvise(Address(next), end - next, MADV_HUGEPAGE) != 0) return;
    while (next < end && time_left_ > Seconds(0)) {
      const size_t part = std::min(kPartBytes, end - next);
      if (!MoveNow(next, part)) return;
      next += part;
    }
  }

 private:
  // MADV_COLLAPSE, of Linux 6.1, which older headers lack.
  static constexpr int kCollapse = 25;
  static constexpr size_t kPartBytes = size_t{16} << 20;  // between looks at the clock
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;

  struct Buffer {
    void* data = nullptr;
    size_t bytes = 0;
  };

  static void* Address(uintptr_t address) { return reinterpret_cast<void*>(address); }

  // Whether it makes sense to go on.
  bool MoveNow(uintptr_t begin, size_t bytes) {
    const auto start = Clock::now();
    const bool moved = madvise(Address(begin), bytes, kCollapse) == 0;
    const bool busy = !moved && errno == EAGAIN;  // a page of it; the others have moved
    time_left_ -= Clock::now() - start;
    return moved || busy;
  }

  // Of a huge page; 0 where the system has none, whoever runs it wants none, or it is so large that
  // it is seldom free.
  static size_t PageBytes() {
    const std::string directory = "/sys/kernel/mm/transparent_hugepage/";
    std::ifstream size(directory + "hpage_pmd_size");
    size_t bytes = 0;
    size >> bytes;
    if (bytes > kPartBytes) return 0;
    // Linux 6.8 has a setting for each size, which may refer to that for all of them.
    const std::string of_size =
        Setting(directory + "hugepages-" + std::to_string(bytes / 1024) + "kB/enabled");
    const bool own = !of_size.empty() && of_size != "inherit";
    const std::string setting = own ? of_size : Setting(directory + "enabled");
    return setting == "always" || setting == "madvise" ? bytes : 0;
  }

  // The word in brackets, as in "always [madvise] never"; empty without a file.
  static std::string Setting(const std::string& path) {
    std::ifstream file(path);
    std::string before, word;
    std::getline(file, before, '[');
    std::getline(file, word, ']');
    return word;
  }

  const size_t page_bytes_;
  std::mutex mutex_;
  Seconds time_left_{2};  // of all of the op's buffers: some have other memory at each step
  std::vector<Buffer> buffers_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_HUGE_PAGES_H_
