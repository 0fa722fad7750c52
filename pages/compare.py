"""Compare genes: two to four side by side, one less another, two in one map; or one gene on two slides."""

from nsl.web import across, comparing, controls, navigation, needs

navigation.enter()

heading = controls.heading("Compare genes")

slide = needs.predicted_slide()
mode = comparing.choose_mode()
if mode == comparing.ACROSS:
    across.show(slide)
else:
    controls.cautions(slide, heading)
    comparing.compare_genes(slide, mode)
