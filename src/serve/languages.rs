//! The languages of models that know several: what clients call them, and what the model does.
//!
//! Clients send BCP 47 tags (`en`, `zh-Hant`); M2M100 says `en`, mBART `en_XX`, NLLB `eng_Latn`. Both are
//! understood, and the tags are what is listed.

use std::collections::HashMap;

/// A language of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// As the model calls it: `eng_Latn`.
    pub code: String,
    /// As BCP 47 has it: `en`.
    pub tag: String,
}

/// The languages of a model with their tags, each with as much of a script or region as tells it from the
/// others.
///
/// - `codes`: of the model, in its order.
pub(super) fn spoken<'a>(codes: impl IntoIterator<Item = &'a str>) -> Vec<Spoken> {
    let codes: Vec<&str> = codes.into_iter().collect();
    let short = |code: &str| tag(code).split('-').next().unwrap_or_default().to_owned();
    let mut with: HashMap<String, usize> = HashMap::new();
    for code in &codes {
        *with.entry(short(code)).or_default() += 1;
    }
    let named = |code: &str| if with[&short(code)] > 1 { tag(code) } else { short(code) };
    codes.iter().map(|code| Spoken { code: (*code).to_owned(), tag: named(code) }).collect()
}

/// A model's code as a whole tag: `eng_Latn` is `en-Latn`, and `en_XX`, where XX stands for no region, `en`.
fn tag(code: &str) -> String {
    let mut parts = code.split(['_', '-']);
    let language = parts.next().unwrap_or_default();
    let two = (language.len() == 3).then(|| two_letters(language)).flatten();
    let rest: String = parts.filter(|part| *part != "XX").map(|part| format!("-{part}")).collect();
    format!("{}{rest}", two.unwrap_or(language))
}

/// The two letters that ISO 639-1 has for three of ISO 639-3.
fn two_letters(three: &str) -> Option<&'static str> {
    // Macrolanguages stand beside the language that models mean by them.
    const PAIRS: &str = "af afr,am amh,ar arb,ar ara,as asm,ay ayr,az azj,ba bak,be bel,bg bul,bm bam,bn ben,bo bod,bs bos,ca cat,cs ces,cy cym,da dan,de deu,dz dzo,ee ewe,el ell,en eng,eo epo,es spa,et est,eu eus,fa pes,fa fas,ff fuv,fi fin,fj fij,fo fao,fr fra,ga gle,gd gla,gl glg,gn grn,gu guj,ha hau,he heb,hi hin,hr hrv,ht hat,hu hun,hy hye,id ind,ig ibo,is isl,it ita,ja jpn,jv jav,ka kat,kg kon,ki kik,kk kaz,km khm,kn kan,ko kor,ks kas,ku kmr,ky kir,lb ltz,lg lug,li lim,ln lin,lo lao,lt lit,lv lvs,lv lav,mg plt,mg mlg,mi mri,mk mkd,ml mal,mn khk,mn mon,mr mar,ms zsm,ms msa,mt mlt,my mya,nb nob,ne npi,ne nep,nl nld,nn nno,no nor,ny nya,oc oci,om gaz,om orm,or ory,or ori,pa pan,pl pol,ps pbt,ps pus,pt por,qu quy,rn run,ro ron,ru rus,rw kin,sa san,sc srd,sd snd,sg sag,si sin,sk slk,sl slv,sm smo,sn sna,so som,sq als,sq sqi,sr srp,ss ssw,st sot,su sun,sv swe,sw swh,sw swa,ta tam,te tel,tg tgk,th tha,ti tir,tk tuk,tl tgl,tn tsn,tr tur,ts tso,tt tat,tw twi,ug uig,uk ukr,ur urd,uz uzn,uz uzb,vi vie,wo wol,xh xho,yi ydd,yi yid,yo yor,zh zho,zh cmn,zu zul";
    PAIRS
        .split(',')
        .filter_map(|pair| pair.split_once(' '))
        .find(|(_, long)| *long == three)
        .map(|(two, _)| two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_told_from_the_others_of_its_model_with_as_little_as_possible() {
        let tags = |codes: &[&str]| -> Vec<String> {
            spoken(codes.iter().copied()).into_iter().map(|language| language.tag).collect()
        };
        assert_eq!(
            tags(&["eng_Latn", "zho_Hans", "zho_Hant", "ace_Arab"]),
            ["en", "zh-Hans", "zh-Hant", "ace"]
        );
        assert_eq!(tags(&["en_XX", "zh_CN", "pt_XX"]), ["en", "zh", "pt"]);
        assert_eq!(tags(&["en", "zh", "ceb"]), ["en", "zh", "ceb"]);
        assert_eq!(tags(&["arb_Arab", "arb_Latn", "ary_Arab"]), ["ar-Arab", "ar-Latn", "ary"]);
    }
}
