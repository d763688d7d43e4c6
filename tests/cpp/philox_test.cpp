#include "common/philox.h"

#include <stdexcept>

#include "test.h"

namespace specbranch {
namespace {

using Words = std::array<std::uint32_t, 4>;

std::int64_t key(std::uint32_t low, std::uint32_t high) {
  return static_cast<std::int64_t>(std::uint64_t{high} << 32 | low);
}

// The known answers that come with the Random123 library for Philox4x32-10.
TEST(philox, known_answers) {
  CHECK((philox4x32_10(0, 0, 0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffff;
  CHECK((philox4x32_10(key(ones, ones), ones, ones, ones, ones) ==
         Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((philox4x32_10(key(0xa4093822, 0x299f31d0), 0x243f6a88, 0x85a308d3, 0x13198a2e,
                       0x03707344) == Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(philox, a_token_has_the_word_of_its_place_in_the_group) {
  const NoiseSource noise{philox_key(7), 11, NoiseStream::kAccept};
  const Words words = philox4x32_10(7, 11, 5, static_cast<std::uint32_t>(NoiseStream::kAccept), 0);
  for (std::uint32_t lane = 0; lane < 4; ++lane) CHECK(noise.word(20 + lane) == words[lane]);
}

TEST(philox, mix_is_two_words_of_its_own_stream) {
  const Words words = philox4x32_10(-3, 9, 0, static_cast<std::uint32_t>(NoiseStream::kMix), 0);
  CHECK(mix(-3, 9) == key(words[0], words[1]));
}

TEST(philox, mix_refuses_numbers_that_are_no_counter) {
  bool refused = false;
  try {
    mix(1, -1);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

}  // namespace
}  // namespace specbranch
