"""Attack stories: a legitimate step, the attack, the refusal with its reason, and a state that has not changed."""
