// How Python steers the simulated device; part of every library.

#include "bind.hpp"
#include "machine.hpp"
#include "memory.hpp"

SIMT_EXPORT const char* simt_message() { return simt::message; }

SIMT_EXPORT void simt_set_schedule(int order, unsigned seed, int resident_blocks,
                                   int shuffle_blocks, int late_copies, long shared_limit) {
  simt::schedule = {static_cast<simt::Order>(order),
                    seed,
                    resident_blocks,
                    shuffle_blocks != 0,
                    late_copies != 0,
                    static_cast<std::size_t>(shared_limit)};
}

SIMT_EXPORT void simt_count_traffic(int on) { simt::count_traffic(on != 0); }

SIMT_EXPORT void simt_clear_buffers() { simt::clear_buffers(); }

SIMT_EXPORT void simt_add_buffer(void* data, std::size_t bytes, const char* name, int writable) {
  simt::add_buffer(data, bytes, name, writable != 0);
}

/// Twelve numbers: requests, transactions, ideal; of global reads, writes, shared reads, writes.
SIMT_EXPORT void simt_take_traffic(long* numbers) {
  const simt::Traffic traffic = simt::take_traffic();
  for (const simt::Transactions& sum :
       {traffic.global_reads, traffic.global_writes, traffic.shared_reads, traffic.shared_writes}) {
    *numbers++ = sum.requests;
    *numbers++ = sum.transactions;
    *numbers++ = sum.ideal;
  }
}
