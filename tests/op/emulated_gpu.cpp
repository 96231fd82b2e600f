// A TensorFlow device of type GPU whose memory is the host's and whose streams are done at once.
//
// With kernels that are emulated on the CPU it runs what TensorFlow does around a GPU op, without
// a GPU: placement, memory types, copies between devices, the allocator, references to buffers.
// It says nothing about asynchronous execution.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tensorflow/c/experimental/stream_executor/stream_executor.h"
#include "tensorflow/c/tf_status.h"

namespace {

constexpr int kDevices = 2;
constexpr size_t kAlignment = 256;

void Ok(TF_Status* status) { TF_SetStatus(status, TF_OK, ""); }

// Nothing is ever pending: an event is any address, a stream is none.
char event;

void* Allocate(uint64_t size) {
  return std::aligned_alloc(kAlignment, (size + kAlignment - 1) / kAlignment * kAlignment);
}

void SetMemory(SP_StreamExecutor* executor) {
  executor->allocate = [](const SP_Device*, uint64_t size, int64_t, SP_DeviceMemoryBase* memory) {
    *memory = {SP_DEVICE_MEMORY_BASE_STRUCT_SIZE, nullptr, Allocate(size), size, 0};
  };
  executor->deallocate = [](const SP_Device*, SP_DeviceMemoryBase* memory) {
    std::free(memory->opaque);
    memory->opaque = nullptr;
  };
  executor->host_memory_allocate = [](const SP_Device*, uint64_t size) { return Allocate(size); };
  executor->host_memory_deallocate = [](const SP_Device*, void* memory) { std::free(memory); };
  executor->get_allocator_stats = [](const SP_Device*, SP_AllocatorStats*) -> TF_Bool { return 0; };
  executor->device_memory_usage = [](const SP_Device*, int64_t* free, int64_t* total) -> TF_Bool {
    *free = *total = int64_t{1} << 30;
    return 1;
  };
}

void SetCopies(SP_StreamExecutor* executor) {
  using Memory = SP_DeviceMemoryBase;
  executor->memcpy_dtoh = [](const SP_Device*, SP_Stream, void* to, const Memory* from,
                             uint64_t size, TF_Status* status) {
    std::memcpy(to, from->opaque, size);
    Ok(status);
  };
  executor->memcpy_htod = [](const SP_Device*, SP_Stream, Memory* to, const void* from,
                             uint64_t size, TF_Status* status) {
    std::memcpy(to->opaque, from, size);
    Ok(status);
  };
  executor->memcpy_dtod = [](const SP_Device*, SP_Stream, Memory* to, const Memory* from,
                             uint64_t size, TF_Status* status) {
    std::memmove(to->opaque, from->opaque, size);
    Ok(status);
  };
  executor->sync_memcpy_dtoh = [](const SP_Device*, void* to, const Memory* from, uint64_t size,
                                  TF_Status* status) {
    std::memcpy(to, from->opaque, size);
    Ok(status);
  };
  executor->sync_memcpy_htod = [](const SP_Device*, Memory* to, const void* from, uint64_t size,
                                  TF_Status* status) {
    std::memcpy(to->opaque, from, size);
    Ok(status);
  };
  executor->sync_memcpy_dtod = [](const SP_Device*, Memory* to, const Memory* from, uint64_t size,
                                  TF_Status* status) {
    std::memmove(to->opaque, from->opaque, size);
    Ok(status);
  };
}

void SetFills(SP_StreamExecutor* executor) {
  using Memory = SP_DeviceMemoryBase;
  executor->mem_zero = [](const SP_Device*, SP_Stream, Memory* memory, uint64_t size,
                          TF_Status* status) {
    std::memset(memory->opaque, 0, size);
    Ok(status);
  };
  executor->memset = [](const SP_Device*, SP_Stream, Memory* memory, uint8_t pattern, uint64_t size,
                        TF_Status* status) {
    std::memset(memory->opaque, pattern, size);
    Ok(status);
  };
  executor->memset32 = [](const SP_Device*, SP_Stream, Memory* memory, uint32_t pattern,
                          uint64_t size, TF_Status* status) {
    auto* words = static_cast<uint32_t*>(memory->opaque);
    for (uint64_t i = 0; i < size / sizeof pattern; ++i) words[i] = pattern;
    Ok(status);
  };
}

void SetStreams(SP_StreamExecutor* executor) {
  executor->create_stream = [](const SP_Device*, SP_Stream* stream, TF_Status* status) {
    *stream = nullptr;
    Ok(status);
  };
  executor->destroy_stream = [](const SP_Device*, SP_Stream) {};
  executor->create_stream_dependency = [](const SP_Device*, SP_Stream, SP_Stream,
                                          TF_Status* status) { Ok(status); };
  executor->get_stream_status = [](const SP_Device*, SP_Stream, TF_Status* status) { Ok(status); };
  executor->block_host_until_done = [](const SP_Device*, SP_Stream, TF_Status* status) {
    Ok(status);
  };
  executor->synchronize_all_activity = [](const SP_Device*, TF_Status* status) { Ok(status); };
  executor->host_callback = [](const SP_Device*, SP_Stream, SE_StatusCallbackFn callback,
                               void* argument) -> TF_Bool {
    TF_Status* status = TF_NewStatus();
    callback(argument, status);
    TF_DeleteStatus(status);
    return 1;
  };
}

void SetEvents(SP_StreamExecutor* executor) {
  executor->create_event = [](const SP_Device*, SP_Event* created, TF_Status* status) {
    *created = reinterpret_cast<SP_Event>(&event);
    Ok(status);
  };
  executor->destroy_event = [](const SP_Device*, SP_Event) {};
  executor->get_event_status = [](const SP_Device*, SP_Event) { return SE_EVENT_COMPLETE; };
  executor->record_event = [](const SP_Device*, SP_Stream, SP_Event, TF_Status* status) {
    Ok(status);
  };
  executor->wait_for_event = [](const SP_Device*, SP_Stream, SP_Event, TF_Status* status) {
    Ok(status);
  };
  executor->block_host_for_event = [](const SP_Device*, SP_Event, TF_Status* status) {
    Ok(status);
  };
}

void SetTimers(SP_StreamExecutor* executor) {
  executor->create_timer = [](const SP_Device*, SP_Timer*, TF_Status* status) { Ok(status); };
  executor->destroy_timer = [](const SP_Device*, SP_Timer) {};
  executor->start_timer = [](const SP_Device*, SP_Stream, SP_Timer, TF_Status* status) {
    Ok(status);
  };
  executor->stop_timer = executor->start_timer;
}

void SetPlatform(SP_PlatformFns* functions) {
  functions->struct_size = SP_PLATFORM_FNS_STRUCT_SIZE;
  functions->get_device_count = [](const SP_Platform*, int* count, TF_Status* status) {
    *count = kDevices;
    Ok(status);
  };
  functions->create_device = [](const SP_Platform*, SE_CreateDeviceParams* params,
                                TF_Status* status) {
    *params->device = {SP_DEVICE_STRUCT_SIZE, nullptr, params->ordinal, nullptr,
                       "Emulated GPU",        "none",  "0000:00:00.0"};
    Ok(status);
  };
  functions->destroy_device = [](const SP_Platform*, SP_Device*) {};
  functions->create_device_fns = [](const SP_Platform*, SE_CreateDeviceFnsParams* params,
                                    TF_Status* status) {
    *params->device_fns = {};
    params->device_fns->struct_size = SP_DEVICE_FNS_STRUCT_SIZE;
    Ok(status);
  };
  functions->destroy_device_fns = [](const SP_Platform*, SP_DeviceFns*) {};
  functions->create_stream_executor = [](const SP_Platform*, SE_CreateStreamExecutorParams* params,
                                         TF_Status* status) {
    SP_StreamExecutor* const executor = params->stream_executor;
    executor->struct_size = SP_STREAMEXECUTOR_STRUCT_SIZE;
    SetMemory(executor);
    SetCopies(executor);
    SetFills(executor);
    SetStreams(executor);
    SetEvents(executor);
    SetTimers(executor);
    Ok(status);
  };
  functions->destroy_stream_executor = [](const SP_Platform*, SP_StreamExecutor*) {};
  functions->create_timer_fns = [](const SP_Platform*, SP_TimerFns* timer, TF_Status* status) {
    timer->struct_size = SP_TIMER_FNS_STRUCT_SIZE;
    timer->nanoseconds = [](SP_Timer) -> uint64_t { return 0; };
    Ok(status);
  };
  functions->destroy_timer_fns = [](const SP_Platform*, SP_TimerFns*) {};
}

}  // namespace

// What TensorFlow calls when it loads this library.
extern "C" void SE_InitPlugin(SE_PlatformRegistrationParams* params, TF_Status* status) {
  SP_Platform* const platform = params->platform;
  platform->struct_size = SP_PLATFORM_STRUCT_SIZE;
  platform->name = "EMULATED";
  platform->type = "GPU";
  platform->use_bfc_allocator = 1;
  platform->force_memory_growth = 1;
  SetPlatform(params->platform_fns);
  params->destroy_platform = [](SP_Platform*) {};
  params->destroy_platform_fns = [](SP_PlatformFns*) {};
  Ok(status);
}
