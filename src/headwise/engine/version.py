"""The version of what lies between a cell and its answer."""

# Changes whenever the engine, the cutting of windows, the rule of a budget or greedy decoding can give other answers.
#
# Answers given under another version are not reused. Strategies, controls and the prompt have versions of their own.
ENGINE_VERSION = "5"
