// Huge pages under large tables: rows at random are each in a page of their own, whose address is
// then seldom looked up in the page tables.
#ifndef SPLITOP_TF_HUGE_PAGES_H_
#define SPLITOP_TF_HUGE_PAGES_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

namespace splitop {

// The buffers of one op, which are moved into huge pages, a part of one of them at each execution:
// no step waits for all of a table. What the system refuses is not asked for again.
class HugePages {
 public:
  // Of less, the processor knows most pages by heart.
  static constexpr size_t kFewestBytes = size_t{64} << 20;
  // What is moved at a time: some 40 ms.
  static constexpr size_t kPartBytes = size_t{16} << 20;

  explicit HugePages(size_t buffers) : page_bytes_(PageBytes()), buffers_(buffers) {}

  // Moves a part of a buffer, unless that is done. Whether it has tried to.
  // buffer: its number in the op. The caller sees to it that nobody frees it.
  bool MovePart(size_t buffer, void* data, size_t bytes) {
    if (bytes < kFewestBytes || page_bytes_ == 0) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    Buffer& seen = buffers_[buffer];
    if (seen.data != data) Start(data, bytes, &seen);
    if (seen.next == seen.end) return false;
    const size_t part = std::min(kPartBytes, seen.end - seen.next);
    const bool moved = madvise(reinterpret_cast<void*>(seen.next), part, kCollapse) == 0;
    seen.next = moved ? seen.next + part : seen.end;  // the system's own thread may do the rest
    return true;
  }

 private:
  // MADV_COLLAPSE, of Linux 6.1, which older headers lack.
  static constexpr int kCollapse = 25;
  // A variable that has other memory at each step is not worth the moving.
  static constexpr int kMostStarts = 4;

  struct Buffer {
    void* data = nullptr;
    uintptr_t next = 0, end = 0;  // what is to be moved still: whole huge pages
    int starts = 0;
  };

  void Start(void* data, size_t bytes, Buffer* buffer) const {
    buffer->data = data;
    buffer->next = buffer->end = 0;
    if (++buffer->starts > kMostStarts) return;
    const uintptr_t page = page_bytes_, first = reinterpret_cast<uintptr_t>(data);
    const uintptr_t begin = (first + page - 1) / page * page, end = (first + bytes) / page * page;
    if (begin >= end || madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE) != 0) {
      return;
    }
    buffer->next = begin;
    buffer->end = end;
  }

  // Of a huge page; 0 where the system has none, whoever runs it wants none, or it is larger than
  // what is moved at a time.
  static size_t PageBytes() {
    const std::string directory = "/sys/kernel/mm/transparent_hugepage/";
    std::ifstream enabled(directory + "enabled"), size(directory + "hpage_pmd_size");
    std::string setting;
    size_t bytes = 0;
    std::getline(enabled, setting);
    size >> bytes;
    const bool wanted = !setting.empty() && setting.find("[never]") == std::string::npos;
    return wanted && bytes <= kPartBytes ? bytes : 0;
  }

  const size_t page_bytes_;
  std::mutex mutex_;
  std::vector<Buffer> buffers_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_HUGE_PAGES_H_
