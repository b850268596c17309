"""Car Dealer: sell a car to a buyer who bargains."""

GYMNASIUM_IDS = {
    "lmrl/CarDealer-v0": ("CarDealer", {}),
    "lmrl/CarDealerRevenue-v0": ("CarDealer", {"reward": "revenue"}),
}
