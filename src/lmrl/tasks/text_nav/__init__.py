"""Text-Nav: cook a meal in a house of text, fully and partially observed."""

GYMNASIUM_IDS = {
    "lmrl/TextNav-v0": ("TextNav", {}),
    "lmrl/TextNavPO-v0": ("TextNav", {"display_location": False, "display_inventory": False}),
}
