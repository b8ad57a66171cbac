//! What news of pods make of gangs.
