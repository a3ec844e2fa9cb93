"""Vocabulary of scenes and questions, and the RGB values of the colour words."""

GRID = 24  # cells per side: 24 x 24 = 576 visual tokens
CELL = 8  # pixels per cell side: the vision tower's patch size

SHAPES = (
    "circle", "square", "triangle", "star", "cross", "heart", "moon", "diamond",
    "ring", "arrow", "house", "tree", "cup", "key", "fish", "bell",
)  # fmt: skip
COLORS = {
    "red": (214, 40, 40),
    "green": (30, 150, 50),
    "blue": (40, 70, 220),
    "yellow": (245, 215, 30),
    "purple": (130, 40, 170),
    "orange": (245, 130, 20),
    "pink": (250, 130, 190),
    "white": (250, 250, 250),
}
COLOR_NAMES = tuple(COLORS)
SIZES = ("small", "medium", "large")  # 1, 2 and 3 cells per side
PLACES = {
    "sea": (70, 130, 150),
    "sand": (205, 185, 140),
    "grass": (125, 160, 95),
    "night": (35, 35, 60),
}
PLACE_NAMES = tuple(PLACES)
NUMBERS = ("one", "two", "three", "four")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
SIGN_CHARACTERS = LETTERS + "123456789+"
SIGN_LENGTH = 4  # most characters on a sign

# Words that only test signs carry: no training sign ever shows one of them.
TEST_WORDS = (
    "bat", "cat", "dog", "sun", "map", "pen", "box", "jam", "fig", "hut", "van", "zoo", "ice", "egg", "owl",
    "ray", "sky", "tie", "win", "gas", "bus", "cab", "den", "elf", "fox", "gum", "hay", "jug", "jet", "kit",
    "log", "mud", "net", "oak", "pot", "rug", "saw", "tea", "urn", "wax", "exit", "stop", "open", "cafe",
    "bank", "taxi", "park", "fire", "shop", "food", "gate", "mail", "bike", "fuel", "zone", "view", "west",
    "east", "king", "lamp", "milk", "nest", "pear", "quiz", "rope", "salt", "tent", "unit", "vase", "wolf",
    "yard", "bear", "corn", "duck", "frog", "goat", "hill", "iron", "jazz", "kite",
)  # fmt: skip

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
INSTRUCTION = "Answer the question using a single word or phrase."
LETTER_INSTRUCTION = "Answer with the option's letter from the given choices directly."
REGION = "Please provide the bounding box coordinate of the region this sentence describes:"
# Fractions of the side at which a cell can begin or end, as LLaVA writes coordinates: one token each.
COORDINATES = tuple(f"{edge / GRID:.2f}" for edge in range(GRID + 1))
YES_NO = "Please answer yes or no."
OCR_LINE = "Reference OCR token:"

# single-token words of the tokenizer, in vocabulary order
_GRAMMAR = (
    "Is", "Are", "What", "Which", "Does", "there", "a", "an", "in", "the", "this", "image",
    "picture", "color", "shape", "shapes", "is", "or", "and", "both", "either", "on", "side", "at",
    "top", "bottom", "of", "left", "right", "to", "above", "below", "same", "place", "show", "sign",
    "say", "written", "word", "number", "answer", "sum", "yes", "no",
)  # fmt: skip
WHOLE_WORDS = (*_GRAMMAR, *SHAPES, *COLOR_NAMES, *SIZES, *PLACE_NAMES, *NUMBERS)
