(function(){"use strict";
function data(id){var e=document.getElementById(id);return e?JSON.parse(e.textContent):null}
function moment(s){if(s<1)return Math.round(s*1000)+" ms";var d=Math.floor(s/86400),h=Math.floor(s%86400/3600),m=Math.floor(s%3600/60),c=Math.floor(s%60);
function two(n){return(n<10?"0":"")+n}return(d?d+" d ":"")+two(h)+":"+two(m)+":"+two(c)}
function number(v){return v.toLocaleString("en",{maximumFractionDigits:2})}
var levels=data("levels"),seek=document.getElementById("seek"),read=document.getElementById("read");
var plots=[].slice.call(document.querySelectorAll("#timeline .plot"));
function show(place,quiet){if(!levels)return;var at=place*levels.step,share=Math.min(100,(place+.5)*levels.step/levels.length*100);
read.textContent="";function add(name,text){var s=document.createElement("span"),b=document.createElement("b");s.append(name+" ");b.textContent=text;s.append(b);read.append(s)}
add("from",moment(at));levels.series.forEach(function(s){var v=s.values[place];if(v!==undefined)add(s.name,number(v)+(s.unit?" "+s.unit:""))});
seek.setAttribute("aria-valuetext",read.textContent);
plots.forEach(function(p){var c=p.querySelector(".cursor");c.hidden=!!quiet;c.style.left=share+"%"})}
if(levels&&seek){seek.closest(".seek").hidden=false;seek.addEventListener("input",function(){show(+seek.value)});show(0,true);
plots.forEach(function(p){function move(e){var r=p.getBoundingClientRect(),share=Math.max(0,Math.min(1,(e.clientX-r.left)/r.width));
var place=Math.min(+seek.max,Math.floor(share*levels.length/levels.step));seek.value=place;show(place)}
p.addEventListener("pointermove",move);p.addEventListener("pointerdown",move)})}
var cells=data("cells"),canvas=document.getElementById("strips"),cell=document.getElementById("cell");if(!cells||!canvas)return;
var columns=0,rows=cells.rows.map(function(r){var list=[];r[2].split(";").forEach(function(run){var p=run.split("."),n=parseInt(p[0],36);
var c={who:p[1]===""?-1:parseInt(p[1],36),used:parseInt(p[2]||"0",36),down:parseInt(p[3]||"0",36),asleep:parseInt(p[4]||"0",36)};
while(n-->0)list.push(c)});columns=Math.max(columns,list.length);return{first:r[0],nodes:r[1],list:list}});
var high=Math.max(3,Math.min(16,Math.floor(560/rows.length))),at=null,box=canvas.parentNode;
var every=Math.ceil(22/high);
rows.forEach(function(r,i){if(i%every)return;var s=document.createElement("span");s.className="y";s.style.top=(i+.5)*high+"px";s.textContent="n"+r.first;s.setAttribute("aria-hidden","true");box.append(s)});
function colour(name){return getComputedStyle(document.documentElement).getPropertyValue("--"+name).trim()}
function draw(){var scale=window.devicePixelRatio||1,w=Math.max(1,Math.round(box.clientWidth*scale)),h=Math.round(rows.length*high*scale);
canvas.width=w;canvas.height=h;canvas.style.height=rows.length*high+"px";var g=canvas.getContext("2d");g.clearRect(0,0,w,h);
var turns=[],i;for(i=0;i<cells.turns;i++)turns.push(colour("c"+i));var bad=colour("bad"),sleep=colour("sleep"),ink=colour("ink");
var wide=cells.step/cells.length*w,gap=high>=6?scale:0;
rows.forEach(function(r,y){var top=y*high*scale,tall=high*scale-gap,from=0;
while(from<r.list.length){var c=r.list[from],to=from+1;while(to<r.list.length&&r.list[to]===c)to++;
var x=Math.round(from*wide),end=Math.min(w,Math.round(to*wide));
if(c.used){g.globalAlpha=.3+.7*c.used/100;g.fillStyle=turns[c.who%cells.turns];g.fillRect(x,top,end-x,tall)}
if(c.asleep){g.globalAlpha=.25+.4*c.asleep/100;g.fillStyle=sleep;g.fillRect(x,top+tall*.7,end-x,tall*.3)}
if(c.down){g.globalAlpha=.5+.5*c.down/100;g.fillStyle=bad;g.fillRect(x,top,end-x,Math.max(scale,tall*c.down/100))}
from=to}});g.globalAlpha=1;
if(at){g.strokeStyle=ink;g.lineWidth=2*scale;g.strokeRect(Math.round(at.x*wide),at.y*high*scale,Math.max(3*scale,wide),high*scale)}}
function tell(){if(!at)return;var r=rows[at.y],c=r.list[at.x]||{who:-1,used:0,down:0,asleep:0};
var who=c.who<0?"nobody":cells.by==="job"?"job/"+c.who:(cells.names[c.who]||"queue "+c.who);cell.textContent="";
function add(name,text){var s=document.createElement("span"),b=document.createElement("b");s.append(name+" ");b.textContent=text;s.append(b);cell.append(s)}
add("nodes",r.nodes>1?r.first+" to "+(r.first+r.nodes-1):""+r.first);add("from",moment(at.x*cells.step));add("most by",who);add("in use",c.used+" %");
if(c.down)add("down",c.down+" %");if(c.asleep)add("asleep",c.asleep+" %");draw()}
function point(e){var r=canvas.getBoundingClientRect();var x=Math.floor((e.clientX-r.left)/r.width*cells.length/cells.step),y=Math.floor((e.clientY-r.top)/high);
at={x:Math.max(0,Math.min(columns-1,x)),y:Math.max(0,Math.min(rows.length-1,y))};tell()}
canvas.addEventListener("pointermove",point);canvas.addEventListener("pointerdown",point);
canvas.addEventListener("keydown",function(e){var d={ArrowLeft:[-1,0],ArrowRight:[1,0],ArrowUp:[0,-1],ArrowDown:[0,1],PageUp:[-20,0],PageDown:[20,0]}[e.key];if(!d)return;e.preventDefault();
at=at||{x:0,y:0};at={x:Math.max(0,Math.min(columns-1,at.x+d[0])),y:Math.max(0,Math.min(rows.length-1,at.y+d[1]))};tell()});
cell.textContent=" ";draw();addEventListener("resize",draw);matchMedia("(prefers-color-scheme:dark)").addEventListener("change",draw)})();
