// What the declaration of a field says of its value.
#pragma once

#include <string>
#include <vector>

#include "mblm/config/fields.h"

namespace mblm {

// "an integer of at least 1", "fixed, rope or null", "a list of numbers".
std::string expectation_of(const Field& field);
// The same for `name`, the field itself or an entry of its list, `field[2]`.
std::string expectation_of(const Field& field, const std::string& name);

// Calls section.fail for a value, or an entry of a list, that is not in the field's range or among its choices.
void check_value(const Field& field, const Fields& section);

// The name that is so close to `name` that it may be meant; empty when there is none.
std::string closest_name(const std::string& name, const std::vector<std::string>& names);
// `, did you mean NAME?`, or nothing.
std::string suggestion(const std::string& name, const std::vector<std::string>& names);

std::string joined(const std::vector<std::string>& words, const std::string& last_separator);  // "a, b or c" with " or "

}  // namespace mblm
