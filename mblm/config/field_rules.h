// Descriptions and checks of values, derived from the declarations of fields.
#pragma once

#include <string>
#include <vector>

#include "mblm/config/fields.h"

namespace mblm {

// Describes the values of a field: "an integer of at least 1", "fixed, rope or null", "a list of numbers".
std::string expectation_of(const Field& field);
// The same for `name`, which is the field or an entry of its list such as `field[2]`.
std::string expectation_of(const Field& field, const std::string& name);

// Calls section.fail if the value, or an entry of the list, is outside the field's range or choices.
void check_value(const Field& field, const Fields& section);

// Returns the name most similar to `name`, or an empty string if none is similar enough.
std::string closest_name(const std::string& name, const std::vector<std::string>& names);
// Returns `, did you mean NAME?`, or an empty string.
std::string suggestion(const std::string& name, const std::vector<std::string>& names);

std::string joined(const std::vector<std::string>& words, const std::string& last_separator);  // "a, b or c" for " or "

}  // namespace mblm
